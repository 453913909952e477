# -*- test-case-name: tests.settings.test_reader -*-
"""
The process itself: where it listens, how much of its clients' connections it bears, what it
remembers: [gateway], [audit].
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.settings.option import (
    DAY,
    FIELD_NAME,
    TEXT,
    BadValue,
    Declared,
    Option,
    Type,
    duration,
    integer,
    network_list,
    size,
    words,
)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """[gateway]."""

    name: str
    listen: tuple[str, ...]
    workers: int
    edge: str
    trusted_proxies: tuple[str, ...]
    client_address_header: str
    max_connections: int
    max_connections_per_ip: int
    max_requests_in_flight: int
    max_request_line: int
    max_head: int
    max_fields: int
    header_timeout: float
    body_timeout: float
    send_timeout: float
    idle_timeout: float
    shutdown_grace: float
    worker_timeout: float
    cpu_affinity: str
    revocations: str


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """[audit]. C{retention} in days, 0 for ever."""

    database: str
    batch: int
    flush_interval: float
    queue: int
    retention: int


def _affinity(text: str) -> str:
    if text in ("no", "yes"):
        return text
    found = words(text)
    if not found or any(re.fullmatch("[0-9]{1,4}", word) is None for word in found):
        raise BadValue("no, yes, or numbers of processors such as 2, 3")
    return ",".join(found)


def _listen(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise BadValue("a name of at most 64 letters, digits, dots, dashes")
    return text


GATEWAY: Declared = ("Where it listens, and the bounds of its clients' connections.", (
    Option("listen", Type(_listen, "Twisted endpoint strings, one a line"), "tcp:8080",
           "Where to listen: Twisted endpoint strings, one a line: tcp:PORT[:interface=ADDRESS], "
           "unix:PATH, systemd:domain=INET:index=0.",
           "tcp:8443:interface=10.0.0.1"),
    Option("name", Type(_name, "a name"), "gateway",
           "What this gateway is called in a shared store: those of one name share counters, "
           "circuits and revocations; those of another share nothing.", "shop", restart=True),
    Option("workers", integer(1, 1024, {"auto": 0}), "1",
           "Processes that serve; auto: one for each processor. More than one have a "
           "supervisor, which shares the listeners among them, restarts one that dies, and "
           "takes more or fewer at a reload (from or to a single process: by SIGUSR2).", "auto"),
    Option("edge", TEXT, "",
           "What /health calls this place. Default: the host's name.", "fra1"),
    Option("trusted_proxies", network_list(unix=True), "",
           "Networks (or unix) of the proxies before the gateway, whose client_address_header "
           "is believed. Default: nobody, so a client is whoever connects.", "10.0.0.0/8, unix",
           "Whoever can connect from there can claim any address."),
    Option("client_address_header", FIELD_NAME, "X-Forwarded-For",
           "The one field in which trusted proxies name the client: X-Forwarded-For, Forwarded, "
           "or one with a single address in it. Others of the kind are dropped.",
           "CF-Connecting-IP"),
    Option("max_connections", integer(1, 10_000_000), "20000",
           "Open connections of clients; when reached, no more are accepted until one ends."),
    Option("max_connections_per_ip", integer(0, 10_000_000), "0",
           "The same for one address; its further connections are closed. 0: no limit. "
           "Behind a proxy all clients have its address.", "200"),
    Option("max_requests_in_flight", integer(0, 10_000_000), "0",
           "Requests that may be under way at once; 503 with Retry-After beyond, so that a "
           "slow upstream's crowd does not slow everybody. 0: no limit. Preflights, /health and "
           "refusals of strangers never count.", "5000"),
    Option("max_request_line", size(256, 1 << 20), "8KiB", "414 beyond.", "16KiB"),
    Option("max_head", size(1024, 1 << 20), "32KiB", "431 beyond, as for max_fields.", "64KiB"),
    Option("max_fields", integer(1, 10_000), "100", "Header fields of a request; 431 beyond.",
           "200"),
    Option("header_timeout", duration(0.1, DAY), "10s",
           "For the head of a request, from its first byte (or the connection's begin); 408."),
    Option("body_timeout", duration(0.1, DAY), "60s",
           "For a body that makes no progress; 408."),
    Option("send_timeout", duration(0.1, DAY), "60s",
           "For a client that takes nothing of its answer; the connection is cut."),
    Option("idle_timeout", duration(0.1, DAY), "75s",
           "For a connection between two requests; closed."),
    Option("shutdown_grace", duration(0, DAY), "30s",
           "What is in flight at SIGTERM may take so long; then it is cut. Silent connections are "
           "closed then."),
    Option("worker_timeout", duration(2, 600), "10s",
           "Where there are several workers: one that has not beaten for so long (it does "
           "every second) is killed and replaced."),
    Option("cpu_affinity", Type(_affinity, "no, yes, or numbers of processors"), "no",
           "Where there are several workers: yes binds each to a processor of its own, in "
           "turn; a list such as 2, 3, 4 to those. Worth it where nothing else runs.", "yes"),
    Option("revocations", TEXT, "",
           "Where gateway revoke keeps what is no longer good; relative to $STATE_DIRECTORY or the "
           "working directory. Default: NAME-revocations there.", "/var/lib/gateway/revocations",
           restart=True),
))  # fmt: skip

AUDIT: Declared = ("What is remembered.", (
    Option("database", TEXT, "audit.sqlite3",
           "A SQLite file; relative to $STATE_DIRECTORY (systemd sets it) or the working "
           "directory.", "/var/lib/gateway/audit.sqlite3", per_route=False),
    Option("batch", integer(1, 2000), "500", "Rows in one INSERT.", per_route=False),
    Option("flush_interval", duration(0.01, 60), "250ms",
           "How often rows are written; kill -9 loses at most one of these and one batch.",
           per_route=False),
    Option("queue", integer(1, 100_000_000), "100000",
           "Rows held while the disk is slow. Beyond half of it refused strangers are counted "
           "instead of rowed; beyond it rows are counted as lost.", per_route=False),
    Option("retention", integer(0, 36_500), "0", "Days rows are kept; 0: for ever.", "400",
           per_route=False),
))  # fmt: skip
