"""What is measured: the cases, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass, field

ALL = ("nginx", "haproxy", "gateway")


@dataclass(frozen=True)
class Case:
    """
    One row of the table.

    @ivar name: for the command line.
    @ivar label: for readers.
    @ivar least: seconds a slice takes at least: few answers would be no measure.
    @ivar refused: the status with which every peer but nginx answers; nginx forwards.
    @ivar idle: connections held open besides the active ones.
    @ivar peers: who can do it.
    @ivar setup: see L{tests.bench.peers.Peer}.
    @ivar skip: why it can't be measured; empty: it can.
    """

    name: str
    label: str
    variant: str = "hs256"
    users: int = 1000
    headers: str = "few"
    method: str = "GET"
    path: str = ""
    body: int = 0
    connections: int = 64
    idle: int = 0
    refused: int = 0
    least: float = 0
    peers: tuple[str, ...] = ALL
    setup: dict[str, object] = field(default_factory=dict)
    skip: str = ""


CASES = (
    Case("get", "GET of 200 bytes, HS256, 1,000 users"),
    Case("rs256", "the same, RS256", variant="rs256"),
    Case("es256", "the same, ES256", variant="es256"),
    Case("one-user", "1 user", users=1),
    Case("100k-users", "100,000 users", users=100_000),
    Case("browser", "a browser's 12 header fields", headers="browser"),
    Case("fresh", "12 fields, one of them new each time", headers="fresh"),
    Case("401", "no token: 401", refused=401),
    Case("429", "over the limit: 429", refused=429, setup={"limit": 1, "window": 86400}),
    Case("post-64k", "POST of 64 KiB", method="POST", body=65536),
    Case("get-64k", "GET of 64 KiB", path="64k"),
    Case("get-10m", "GET of 10 MiB, 8 connections", path="10m", connections=8, least=3),
    Case("idle-1k", "1,000 connections, 64 of them active", idle=936),
    Case("idle-10k", "10,000 connections, 64 of them active", idle=9936),
    Case("tls", "TLS to the client", skip="the gateway has no TLS yet"),
    Case("audit-off", "audit off", peers=("nginx", "gateway"), setup={"audit": "off"}),
)


def chosen(names: str) -> list[Case]:
    """
    Cases by their names, with commas between; empty: all.

    @raise ValueError: for a name that none has.
    """
    if not names:
        return list(CASES)
    known = {case.name: case for case in CASES}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise ValueError(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]
