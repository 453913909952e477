"""
Mutated request heads, and what h11 and llhttp (httptools) make of them.

The rule: whatever one of them refuses, or reads otherwise, our parser refuses. The
exceptions, each with its reason, are in L{excused}.
"""

from __future__ import annotations

import random

import h11
import httptools

from gateway.http.faults import HeadFault
from gateway.http.fields import FieldRules
from gateway.http.heads import RequestHeads

Fields = list[tuple[bytes, bytes]]
Reading = tuple[bytes, bytes, bytes, Fields]

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: example.test",
    b"GET /a/b?c=d&e HTTP/1.1\r\nHost: example.test:8080\r\nUser-Agent: x/1 (y; z)\r\nAccept: */*",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Type: text/plain",
    b"PUT /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-A: b\tc",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-B\r\nX-B: 1",
    b"GET http://a/x HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\nAuthorization: Bearer abc.def.ghi",
    b"DELETE /x%20y HTTP/1.0\r\nConnection: close\r\nX-Empty:\r\nX-Obs: caf\xe9",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nExpect: 100-continue",
]
PIECES = [
    b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0", b"+", b"-", b"%",
    b"\r\n ", b"\r\nContent-Length: 5", b"\r\nContent-Length: 0", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b", b"Chunked",
    b"\r\nTransfer-Encoding: identity", b"HTTP/1.1", b"GET ", b"#", b"\\", b"//", b"\r\nA : b", b"\r\n: b", b"x" * 50, b"\"", b"{",
]  # fmt: skip

_heads = RequestHeads(FieldRules(frozenset(), frozenset(), frozenset()))


def mutate(rng: random.Random) -> bytes:
    """A head, damaged in up to four places."""
    head = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(head) + 1)
        what = rng.randrange(6)
        if what == 0:
            head[at:at] = rng.choice(PIECES)
        elif what == 1:
            head[at : at + rng.randrange(1, 4)] = b""
        elif what == 2 and at < len(head):
            head[at] = rng.randrange(256)
        elif what == 3:
            head[at : at + 1] = rng.choice(PIECES)
        elif what == 4:
            lines = bytes(head).split(b"\r\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            head = bytearray(b"\r\n".join(lines))
        else:
            head[at:at] = bytes((rng.randrange(256),))
    return bytes(head).partition(b"\r\n\r\n")[0] if not head.startswith(b"\r\n\r\n") else b""


def _fields(lines: list[bytes]) -> Fields:
    split = (line.partition(b":") for line in lines)
    return [_field(name, value) for name, _, value in split]


def _field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    name, value = name.lower(), value.strip(b" \t")
    # A coding's name has no case (RFC 9112 section 7); h11 hands it out in lower case.
    return name, value.lower() if name == b"transfer-encoding" else value


def ours(head: bytes) -> Reading | None:
    """Our reading, or C{None} for a refusal."""
    try:
        read = _heads.parse(head)
    except HeadFault:
        return None
    return read.method, read.target, b"1.1" if read.http11 else b"1.0", _fields(read.lines)


def by_h11(head: bytes) -> Reading | None:
    """h11's."""
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(head.removeprefix(b"\r\n") + b"\r\n\r\n")
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    fields = [_field(bytes(name), bytes(value)) for name, value in event.headers]
    return bytes(event.method), bytes(event.target), bytes(event.http_version), fields


def by_llhttp(head: bytes) -> Reading | None:
    """llhttp's, by way of httptools."""

    class Taker:
        target, fields, done = b"", [], False

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append(_field(name, value))

        def on_headers_complete(self) -> None:
            self.done = True

    taker = Taker()
    taker.fields = []
    parser = httptools.HttpRequestParser(taker)
    try:
        parser.feed_data(head.removeprefix(b"\r\n") + b"\r\n\r\n")
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    if not taker.done:
        return None
    return parser.get_method(), taker.target, parser.get_http_version().encode(), taker.fields


METHODS = frozenset(b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH".split())


def excused(head: bytes, mine: Reading, oracle: str) -> bool:
    """Why an oracle's refusal is none of ours."""
    if oracle == "llhttp" and mine[0] not in METHODS:
        return True  # llhttp knows a list of methods; any token is one (RFC 9110 section 9.1)
    return False


def disagreement(head: bytes) -> str | None:
    """How our reading breaks the rule, or C{None}."""
    mine = ours(head)
    if mine is None:
        return None
    for name, theirs in (("h11", by_h11(head)), ("llhttp", by_llhttp(head))):
        if theirs is None:
            if not excused(head, mine, name):
                return f"{name} refuses {head!r}, we read {mine!r}"
            continue
        method, target, version, fields = theirs
        if target.lower().startswith((b"http://", b"https://")):
            target = mine[1]  # reduced to origin form; test_heads looks at that
        if (method, target, version) != mine[:3] or fields != mine[3]:
            return f"{name} reads {theirs!r} in {head!r}, we read {mine!r}"
    return None
