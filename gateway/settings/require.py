# -*- test-case-name: tests.settings.test_require -*-
"""
What a route asks of those who call, as text: lets in lists, hours and expressions that can
be met; refuses those nobody could meet, and those that a public route can't ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from gateway.routing import expression
from gateway.settings.option import (
    LIST,
    TOKENS,
    YES_NO,
    BadValue,
    Option,
    Type,
    network_list,
    words,
)
from gateway.settings.plans import Reads
from gateway.settings.text import Problems, Section, nearest


@dataclass(frozen=True, slots=True)
class OpenHours:
    """
    One of C{require.time}.

    @ivar days: 0 is Monday.
    @ivar begins: minutes since midnight; C{ends} the same, not after it: on the next day.
    @ivar text: as in the file, with its zone.
    """

    days: tuple[int, ...]
    begins: int
    ends: int
    zone: str
    text: str


@dataclass(frozen=True, slots=True)
class Requirements:
    """
    What a route asks for. Methods are empty where something is asked of all.

    @ivar role: (method, roles).
    @ivar scope: (method, scopes).
    @ivar claims: (method, claim, values).
    """

    role: tuple[tuple[str, tuple[str, ...]], ...]
    scope: tuple[tuple[str, tuple[str, ...]], ...]
    claims: tuple[tuple[str, str, tuple[str, ...]], ...]
    ip: tuple[str, ...]
    time: tuple[OpenHours, ...]
    expr: str


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = re.compile(rf"({'|'.join(_DAYS)})(?:-({'|'.join(_DAYS)}))?")
_CLOCK = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_EXPECTED = "hours such as Mon-Fri 08:00-18:00 Europe/Berlin, one after another by lines or commas"


def _hours(text: str) -> tuple[OpenHours, ...]:
    spans = [span.strip() for span in re.split(r"[,\n]", text)]
    return tuple(_span(span) for span in spans if span)


def _span(text: str) -> OpenHours:
    parts = text.split()
    days: list[int] = []
    while parts and (match := _DAY.fullmatch(parts[0])) is not None:
        first, last = _DAYS.index(match[1]), _DAYS.index(match[2] or match[1])
        days += [(first + more) % 7 for more in range((last - first) % 7 + 1)]
        parts.pop(0)
    clock = _CLOCK.fullmatch(parts[0]) if parts else None
    if clock is None or len(parts) > 2:
        raise BadValue(f"{_EXPECTED}, not {text}")
    begins, ends = int(clock[1]) * 60 + int(clock[2]), int(clock[3]) * 60 + int(clock[4])
    if begins >= 1440 or ends > 1440 or begins == ends:
        raise BadValue("from 00:00-24:00, and not from a moment to itself: " + text)
    zone = parts[1] if len(parts) == 2 else "UTC"
    _known_zone(zone)
    shown = text if len(parts) == 2 else f"{text} UTC"
    return OpenHours(tuple(days) or tuple(range(7)), begins, ends, zone, shown)


def _known_zone(name: str) -> None:
    try:
        if _ZONE.fullmatch(name) is None:
            raise ValueError(name)
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        known = sorted(available_timezones())
        hint = nearest(name, known)
        if not known:
            hint = "; this machine knows none at all: pip install tzdata"
        raise BadValue(f"a time zone such as Europe/Berlin, not {name}{hint}") from None


_SCOPE = re.compile(r"[!#-\[\]-~]+")


def _scopes(text: str) -> tuple[str, ...]:
    found = words(text)
    if any(_SCOPE.fullmatch(word) is None for word in found):
        raise BadValue("scopes such as orders:read (RFC 6749 section 3.3)")
    return found


SCOPES = Type(_scopes, "a list of scopes")


def _expr(text: str) -> str:
    if not text:
        return text
    try:
        return expression.Expression(" ".join(text.split("\n"))).text
    except expression.BadExpression as error:
        raise BadValue(f"an expression in CEL: {error}") from None
    except ImportError:
        raise BadValue(expression.MISSING) from None


REQUIRE_OPTIONS: tuple[Option, ...] = (
    Option("public", YES_NO, "no",
           "Whether the route asks for no token: it is limited by address, its service gets no "
           "identity fields, and a token that came is dropped unread.", "yes",
           "Whoever reaches the gateway may send requests here."),
    Option("methods", TOKENS, "", "Methods that are allowed (405 else). Default: all.",
           "GET, POST"),
    Option("require.role", LIST, "",
           "Any one of these roles (403 else); require.role.METHOD where a method asks for more.",
           "admin, support"),
    Option("require.scope", SCOPES, "",
           "All of these scopes, in the claim scope or scp (403 with insufficient_scope else); "
           "require.scope.METHOD where a method asks for more.", "orders:read"),
    Option("require.ip", network_list(), "",
           "Networks the client must be in (403 else), besides what [ip] says.", "10.0.0.0/8"),
    Option("require.time", Type(_hours, _EXPECTED), "",
           "When the route is open (403 else), any one of the spans: days, hours, time zone "
           "(default: every day, UTC). Hours are the zone's own, summer time included; a span "
           "over midnight belongs to the day on which it begins.",
           "Mon-Fri 08:00-18:00 Europe/Berlin, Sat 22:00-04:00 Europe/Berlin"),
    Option("require.expr", Type(_expr, "an expression in CEL"), "",
           "For all else: an expression in CEL (https://cel.dev) that must be true (403 else, "
           "also when it can't be worked out). It sees claims, user, role, roles, scopes, "
           "method, path, ip and now. Needs pip install 'zero-trust-gateway[cel]'.",
           'claims.level >= 3 || (method == "GET" && "auditor" in claims.groups)'),
)  # fmt: skip

#: C{require.claim.NAME}: the option is made when it is met.
CLAIM = "require.claim."
_BY_METHOD = ("require.role.", "require.scope.")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")

#: What the last part of a claim's option may be to be a method; a claim that is really called
#: so can be asked for in an expression.
_CLAIM_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def made_when_met(name: str) -> bool:
    """Whether that is one of the options that carry a claim's or a method's name."""
    return name.startswith((CLAIM, *_BY_METHOD))


def read_requirements(
    section: Section, given: dict[str, Any], problems: Problems, value_of: Reads
) -> Requirements:
    """
    What a route asks for.

    @param given: the values of L{REQUIRE_OPTIONS}; those of C{require.*} are taken out.
    """
    role = [("", given.pop("require_role"))]
    scope = [("", given.pop("require_scope"))]
    claims = []
    for name, value in section.options.items():
        if not made_when_met(name):
            continue
        kind = LIST if not name.startswith("require.scope.") else SCOPES
        found = value_of(Option(name, kind, "", ""), section, value)
        if not found and not value.broken:
            problems.add(value.line, section.title, name, "empty; expected a list")
        if name.startswith(CLAIM):
            claim, _, method = name[len(CLAIM) :].rpartition(".")
            if not claim or method not in _CLAIM_METHODS:
                claim, method = name[len(CLAIM) :], ""
            claims.append((method, claim, found))
            if not claim:
                problems.add(value.line, section.title, name, "expected require.claim.NAME")
            continue
        method = name.rpartition(".")[2]
        if _METHOD.fullmatch(method) is None or name.count(".") != 2:
            problems.add(value.line, section.title, name,
                         "expected the method in capitals behind it, such as "
                         + name[: name.index(".", 8)] + ".POST")  # fmt: skip
        (role if name.startswith("require.role.") else scope).append((method, found))
    made = Requirements(
        role=tuple(each for each in role if each[1]),
        scope=tuple(each for each in scope if each[1]),
        claims=tuple(claims),
        ip=given.pop("require_ip"),
        time=given.pop("require_time"),
        expr=given.pop("require_expr"),
    )
    if given["public"]:
        _public(section, problems)
    return made


def methods_of(made: Requirements) -> Iterator[str]:
    """The methods of which something is asked that is not asked of all, in their order."""
    named = [method for method, _ in (*made.role, *made.scope)]
    named += [method for method, _, _ in made.claims]
    return (method for method in dict.fromkeys(named) if method)


def _public(section: Section, problems: Problems) -> None:
    """What a public route can't ask, as nobody says who calls."""
    for name, value in section.options.items():
        if name.startswith(("require.role", "require.scope", CLAIM, "jwt.", "headers.claim.")):
            says = "is about the token, and a route with public = yes asks for none"
            problems.add(value.line, section.title, name, says)
        elif name == "auth" or name.startswith(("dpop.", "mtls.")):
            says = "is about who calls, and a route with public = yes asks nobody"
            problems.add(value.line, section.title, name, says)
        elif name == "ratelimit.key" and value.text != "ip":
            says = "expected ip: a route with public = yes knows its clients by address only"
            problems.add(value.line, section.title, name, says)


__all__ = ["CLAIM", "REQUIRE_OPTIONS", "OpenHours", "Requirements"]
