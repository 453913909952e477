# -*- test-case-name: tests.settings.test_reader -*-
"""
What is asked of those who call, and what their browsers are told: [ip], [require], [cors],
[body].
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.option import (
    TOKENS,
    YES_NO,
    BadValue,
    Declared,
    Option,
    Type,
    integer,
    mode,
    network_list,
    size,
    words,
)


@dataclass(frozen=True, slots=True)
class IpSettings:
    """[ip]."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    mode: str


@dataclass(frozen=True, slots=True)
class RequireSettings:
    """[require]."""

    mode: str


@dataclass(frozen=True, slots=True)
class CorsSettings:
    """[cors]."""

    enabled: bool
    allow_origin: tuple[str, ...]
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    max_age: int


@dataclass(frozen=True, slots=True)
class BodySettings:
    """[body]."""

    max_size: int
    mode: str


def _origins(text: str) -> tuple[str, ...]:
    found = words(text)
    if not found or ("*" in found and len(found) > 1):
        raise BadValue("*, or origins such as https://app.example, not both")
    for origin in found:
        scheme, separator, rest = origin.partition("://")
        if origin != "*" and (
            scheme not in ("http", "https")
            or not separator
            or not rest
            or not rest.isascii()
            or any(c in rest for c in "/?#@*")
        ):
            raise BadValue(f"origins such as https://app.example without a path, not {origin}")
    return found


IP: Declared = ("From where.", (
    Option("allow", network_list(), "", "Networks that may come in. Default: everyone.",
           "10.0.0.0/8, 2001:db8::/32"),
    Option("deny", network_list(), "", "Networks that may not, whatever allow says.",
           "10.66.0.0/16"),
    mode("who comes from elsewhere"),
))  # fmt: skip

REQUIRE: Declared = (
    "Whether what routes ask of those who call (methods, require.*) is enforced.", (
    mode("who does not meet it"),
))  # fmt: skip

CORS: Declared = ("What browsers are told.", (
    Option("enabled", YES_NO, "yes",
           "Whether OPTIONS is answered here, without a token; else it is a request like any "
           "other."),
    Option("allow_origin", Type(_origins, "origins"), "*",
           "*, or the origins whose scripts may read answers; the matching one is echoed.",
           "https://app.example, https://admin.example"),
    Option("allow_methods", TOKENS, "GET, POST, PUT, DELETE, OPTIONS", "Told to preflights."),
    Option("allow_headers", TOKENS, "Authorization, Content-Type", "Told to preflights."),
    Option("expose_headers", TOKENS,
           "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID",
           "Fields of answers that scripts may read."),
    Option("max_age", integer(0, 31_536_000), "86400",
           "Seconds a browser may remember a preflight."),
))  # fmt: skip

BODY: Declared = ("How large a request's body may be.", (
    Option("max_size", size(0, 1 << 50), "10MiB", "413 beyond, also for chunked bodies.",
           "100MiB"),
    mode("a larger body"),
))  # fmt: skip
