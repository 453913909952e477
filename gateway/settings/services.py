# -*- test-case-name: tests.settings.test_reader -*-
"""
The services behind: what they are told of who calls, their connections and when they are
left alone: [headers], [breaker], [upstream], [assertion].
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.option import (
    DAY,
    TEXT,
    BadValue,
    Declared,
    Option,
    Type,
    choice,
    duration,
    integer,
    mode,
    size,
    words,
)
from gateway.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class HeadersSettings:
    """[headers]. C{claims}: (field, claim)."""

    max_value: int
    claims: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """[breaker]."""

    failures: int
    reset_after: float
    statuses: tuple[int, ...]
    mode: str


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """[upstream]."""

    connect_timeout: float
    response_timeout: float
    read_timeout: float
    connections: int
    queue: int
    queue_timeout: float
    idle_connections: int
    idle_timeout: float
    ca_file: str


@dataclass(frozen=True, slots=True)
class AssertionSettings:
    """
    [assertion].

    @ivar default: C{no}, C{user} or C{request}.
    @ivar keys: PEM of the keys in the files, that which signs first.
    @ivar given: whether one of these signs; else the one in the file C{generated}.
    @ivar generated: made where there is none; empty: not kept at all.
    """

    default: str
    keys: Secret | None
    given: bool
    generated: str
    issuer: str
    lifetime: float


def _statuses(text: str) -> tuple[int, ...]:
    found = words(text)
    if any(not word.isdigit() or not 400 <= int(word) <= 599 for word in found):
        raise BadValue("a list of statuses from 400 to 599")
    return tuple(int(word) for word in found)


HEADERS: Declared = ("Claims that services get as header fields.", (
    Option("max_value", size(64, 32 << 10), "4KiB",
           "A field's value as it is sent; a token with a longer one is refused (401).",
           "8KiB"),
))  # fmt: skip

BREAKER: Declared = ("When an upstream that fails is left alone.", (
    Option("failures", integer(1, 1_000_000), "5",
           "Consecutive ones that open its circuit: refused or broken connections, time-outs, "
           "and the statuses below."),
    Option("reset_after", duration(0.1, DAY), "30s",
           "How long it stays open (503); then one request is let through on trial."),
    Option("statuses", Type(_statuses, "a list of statuses"), "502, 503, 504",
           "Answers that count as failures. 500 is not among them: one user's crashing request "
           "must not close a service for all."),
    mode("what an open circuit would keep back"),
))  # fmt: skip

UPSTREAM: Declared = ("Connections to the services behind.", (
    Option("connect_timeout", duration(0.05, 600), "5s", "For a new connection; 504."),
    Option("response_timeout", duration(0.05, DAY), "60s",
           "From the request's last byte to the head of the answer; 504."),
    Option("read_timeout", duration(0.05, DAY), "60s",
           "Between the answer's bytes; the client's connection is cut."),
    Option("connections", integer(1, 1_000_000), "256", "To one target; more requests wait,"),
    Option("queue", integer(0, 10_000_000), "1024", "so many of them at most,"),
    Option("queue_timeout", duration(0.05, 600), "5s", "for so long; then 503."),
    Option("idle_connections", integer(0, 1_000_000), "64",
           "Kept open between requests; what a burst leaves beyond ends within seconds."),
    Option("idle_timeout", duration(0.1, DAY), "60s",
           "For how long. Less than the upstream's own keep-alive time-out is best."),
    Option("ca_file", TEXT, "",
           "Certificates (PEM) that sign https upstreams'. Default: the system's.", "ca.pem"),
))  # fmt: skip

ASSERTION: Declared = (
    "The gateway's own word to upstreams on who calls, signed, in X-Gateway-Assertion.", (
    Option("default", choice("no", "user", "request"), "no",
           "What routes do that have no option assertion. user: a JWT with iss, sub, aud (the "
           "upstream), iat, exp, jti, role, scope and route, signed once in half its life. "
           "request: also method, path and request_id, signed for each request. Public keys are at "
           "/.well-known/gateway/jwks.json.", "user", per_route=False),
    Option("key_file", TEXT, "",
           "Private keys (PEM): P-256 (ES256) or Ed25519 (EdDSA). The first one signs, all are "
           "published: put a new key behind the old one, reload, and change places when services "
           "have had five minutes to fetch it. Default: one is made and kept in "
           "$STATE_DIRECTORY or the working directory; several machines need a file.",
           "assertion.pem", per_route=False),
    Option("previous_key_file", TEXT, "",
           "More keys that are published and do not sign.", "assertion-old.pem", per_route=False),
    Option("issuer", TEXT, "", "What iss says. Default: [gateway] edge.", "https://api.example",
           per_route=False),
    Option("lifetime", duration(10, 3600), "60s",
           "How long an assertion is good; never longer than the token it was made of.",
           per_route=False),
))  # fmt: skip
