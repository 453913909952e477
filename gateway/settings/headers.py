# -*- test-case-name: tests.settings.test_headers -*-
"""
Claims that services get as header fields, as text: lets any claim and any field of one's own
in; refuses fields that frame the message, that mean this connection only, or that say
something of their own to the gateway or to every service.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.settings.checks import Lines
from gateway.settings.option import BadValue, Option, Type
from gateway.settings.plans import Reads
from gateway.settings.services import HeadersSettings
from gateway.settings.text import Problems, Section, Value

#: C{headers.claim.FIELD = claim}; in [headers], C{claim.FIELD}.
CLAIM = "claim."

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FOLD = str.maketrans("_.", "--")

#: Beginnings of names that are taken, folded.
_TAKEN = (
    "accept", "access-control-", "authorization", "cache-control", "connection", "content-",
    "cookie", "date", "dpop", "expect", "forwarded", "host", "http2-settings", "if-",
    "keep-alive", "max-forwards", "origin", "pragma", "proxy-", "range", "referer",
    "sec-", "set-cookie", "te", "traceparent", "tracestate", "trailer", "transfer-encoding",
    "upgrade", "user-agent", "via", "www-authenticate",
    "x-forwarded-", "x-gateway-", "x-real-ip", "x-client-ip", "x-cluster-client-ip",
    "true-client-ip", "cf-connecting-ip", "fastly-client-ip", "x-http-method",
    "x-user-id", "x-user-role", "x-request-id", "x-response-time", "x-ratelimit-", "ratelimit",
)  # fmt: skip

#: A beginning that ends so is that of a family, all others are whole names.
_FAMILY = ("-", "accept", "ratelimit", "x-http-method")

_CLAIM_NAME = re.compile(r"[^\s,]{1,256}")


def _claim(text: str) -> str:
    if text and (_CLAIM_NAME.fullmatch(text) is None or not text.isprintable()):
        raise BadValue("the name of a claim, such as department or realm.team")
    return text


CLAIM_TYPE = Type(_claim, "the name of a claim")

Claims = tuple[tuple[str, str], ...]


def folded(name: str) -> str:
    """A field's name as careless services read it."""
    return name.lower().translate(_FOLD)


def taken(name: str) -> bool:
    """Whether a field is not one's own to set."""
    plain = folded(name)
    return any(
        plain.startswith(each) if each.endswith(_FAMILY) else plain == each for each in _TAKEN
    )


def claim(
    section: Section, given: str, value: Value, problems: Problems, value_of: Reads
) -> Claims:
    """
    C{claim.X-Department}, or C{headers.claim.X-Department} in a route: the field and its
    claim; none where no claim may be, which is told.
    """
    field = given[given.index(CLAIM) + len(CLAIM) :]
    says = ""
    if _NAME.fullmatch(field) is None:
        says = "expected claim.FIELD, the name of a header field such as X-Department"
    elif taken(field):
        says = f"{field} is not to be set so; expected a field of your own, such as X-Department"
    if says:
        problems.add(value.line, section.title, given, says)
        return ()
    return ((field, value_of(Option(given, CLAIM_TYPE, "", ""), section, value)),)


def client_address(name: str, every: Sequence[HeadersSettings], lines: Lines) -> None:
    """No field both names the client and carries a claim."""
    if any(folded(field) == folded(name) for each in every for field, _ in each.claims):
        lines.say("gateway", "client_address_header", "is a field that services get a claim in")


def once(claims: Claims, line: int, section: Section, problems: Problems) -> None:
    """Each field once, in whatever spelling."""
    seen: dict[str, str] = {}
    for field, _ in claims:
        first = seen.setdefault(folded(field), field)
        if first != field:
            problems.add(line, section.title, "", f"{first} and {field} are one field to services")


def merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The values of [headers] with a route's own; an empty claim takes a field away."""
    found = {**common, **own}
    claims = {folded(field): (field, claim) for field, claim in common["claims"]}
    claims.update({folded(field): (field, claim) for field, claim in own.get("claims", ())})
    found["claims"] = tuple(pair for pair in claims.values() if pair[1])
    return found
