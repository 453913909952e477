# -*- test-case-name: tests.routing.test_expression -*-
"""
Lets a request in for which an expression in CEL (the Common Expression Language) is true;
refuses any other, and whatever it can't be worked out for.

The language has no loops but those over lists and objects, no functions of one's own, and
touches nothing outside. It is compiled and its types are checked once; its length and its
nesting are bounded, as are the claims it is given, and each evaluation (by the library:
10,000 steps of all its loops together). The library, C{cel-expr-python}, is imported only
where there is an expression.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

#: Characters; what is longer is no rule but a program.
MAX_LENGTH = 4096

#: Members of all lists and objects in the claims, and levels: a copy of a list in each step of
#: a loop over it is what costs most.
MAX_MEMBERS, _MAX_DEPTH = 1000, 16

#: A pattern that a token brings would have to be compiled each time.
_PATTERN = re.compile(r"""\bmatches\s*\(\s*(?![rR]?["'])""")

#: What to say where the library is not installed.
MISSING = "expressions need another package: pip install 'zero-trust-gateway[cel]'"


class BadExpression(Exception):
    """The text is no expression that could decide; C{str()} says why."""


class Expression:
    """
    One compiled expression.

    @raise BadExpression: when the text is none, or none that is true or false.
    @raise ImportError: when the library is not there.
    """

    __slots__ = ("_compiled", "_seen", "text")

    def __init__(self, text: str) -> None:
        from cel_expr_python import cel  # noqa: PLC0415 - an extra, for those who want it

        if len(text) > MAX_LENGTH:
            raise BadExpression(f"longer than {MAX_LENGTH} characters")
        if _PATTERN.search(text) is not None:
            raise BadExpression('expected text.matches("PATTERN"), the pattern in quotes')
        kinds = cel.Type
        variables = {
            "claims": kinds.Map(kinds.STRING, kinds.DYN),
            "user": kinds.STRING,
            "role": kinds.STRING,
            "roles": kinds.List(kinds.STRING),
            "scopes": kinds.List(kinds.STRING),
            "method": kinds.STRING,
            "path": kinds.STRING,
            "ip": kinds.STRING,
            "now": kinds.TIMESTAMP,
        }
        environment = cel.NewEnv(variables=variables)
        try:
            self._compiled = environment.compile(text)
        except RuntimeError as error:
            raise BadExpression(_plain(str(error))) from None
        if self._compiled.return_type() not in (kinds.BOOL, kinds.DYN):
            name = self._compiled.return_type().name()
            raise BadExpression(f"it is of type {name.lower()}; expected true or false")
        # Most of the cost is handing values over, so only those are that could be asked for.
        self._seen = frozenset(name for name in variables if name in text)
        self.text = text

    def true(
        self, *, claims: dict[str, Any], user: str, role: str, roles: list[str],
        scopes: list[str], method: bytes, path: bytes, ip: str, now: float,
    ) -> bool:  # fmt: skip
        """Whether it is true; not when it can't be worked out. C{now} is unix seconds."""
        seen = self._seen
        if "claims" in seen and _room_left(claims, MAX_MEMBERS, _MAX_DEPTH) < 0:
            return False
        values = {
            "claims": claims,
            "user": user,
            "role": role,
            "roles": roles,
            "scopes": scopes,
            "method": method.decode("ascii", "replace"),
            "path": path.decode("ascii", "replace"),
            "ip": ip,
            "now": datetime.fromtimestamp(now, UTC),
        }
        try:
            found = self._compiled.eval(data={name: values[name] for name in seen})
            return found.value() is True
        except Exception:  # noqa: BLE001 - whatever it is, nobody gets in by it
            return False


def _room_left(value: object, room: int, depth: int) -> int:
    """How many more members there is room for; less than 0: for not even these."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        room -= len(value) if depth else room + 1
        for each in value:
            if room < 0:
                break
            if isinstance(each, dict | list):
                room = _room_left(each, room, depth - 1)
    return room


def _plain(error: str) -> str:
    """The first line of what the compiler says, without its own wording around it."""
    first = error.partition("\n")[0].removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")
    return first.removeprefix("<input>:").strip()
