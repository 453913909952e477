# -*- test-case-name: tests.routing.test_policy -*-
"""
Who may do what on a route: lets a request through that has the method, the role, the
scopes and the claims that are asked for; refuses with 405 or 403.

The method is looked at first: a 405 with C{Allow} helps whoever is allowed there with
another method, and tells only authenticated users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.admission.identity import claim_of
from gateway.verdicts import Reason, Refused

_FORBIDDEN = Refused(Reason.POLICY)


class Policy:
    """
    @param methods: those that are allowed; empty: all. GET includes HEAD.
    @param roles: any one of them; empty: whoever.
    @param scopes: all of them, in C{scope} (RFC 8693 section 4.2) or C{scp}.
    @param claims: (name, values): the claim is, or is a list that contains, one of them.
    @ivar open: nothing is asked.
    """

    __slots__ = ("_claims", "_methods", "_not_allowed", "_roles", "_scopes", "open")

    def __init__(
        self,
        methods: Sequence[str] = (),
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        claims: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        allowed = [*methods, "HEAD"] if "GET" in methods and "HEAD" not in methods else methods
        self._methods = frozenset(name.encode("ascii") for name in allowed)
        line = f"Allow: {', '.join(allowed)}\r\n".encode("ascii")
        self._not_allowed = Refused(Reason.METHOD, lines=line)
        self._roles = frozenset(roles)
        self._scopes = frozenset(scopes)
        self._claims = tuple((name, frozenset(values)) for name, values in claims)
        self.open = not (methods or roles or scopes or claims)

    def judge(self, method: bytes, role: str, claims: dict[str, Any]) -> Refused | None:
        """C{None}, or why not."""
        if self._methods and method not in self._methods:
            return self._not_allowed
        if self._roles and role not in self._roles:
            return _FORBIDDEN
        if self._scopes and not self._scopes <= _scopes(claims):
            return _FORBIDDEN
        for name, values in self._claims:
            if not _matches(claim_of(claims, name), values):
                return _FORBIDDEN
        return None


def _scopes(claims: dict[str, Any]) -> set[str]:
    value = claims.get("scope", claims.get("scp"))
    if isinstance(value, str):
        return set(value.split(" "))
    if isinstance(value, list):
        return {each for each in value if isinstance(each, str)}
    return set()


def _matches(value: object, wanted: frozenset[str]) -> bool:
    """Text equals text, a number its usual spelling; anything else never matches."""
    if isinstance(value, list):
        return any(_matches(each, wanted) for each in value if not isinstance(each, list))
    if isinstance(value, bool):
        return ("true" if value else "false") in wanted
    return isinstance(value, str | int) and str(value) in wanted
