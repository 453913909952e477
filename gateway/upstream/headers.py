# -*- test-case-name: tests.upstream.test_headers -*-
"""
Builds the head that the upstream gets: the client's end-to-end fields, and after them
the gateway's own.

What the client may not say (identity fields in any spelling, hop-by-hop fields, its
C{Authorization}) has been left out by the head's parser; what stands here is added
after that, so no C{Connection} field of a client can take it away again.
"""

from __future__ import annotations

from typing import Any

from gateway.admission.peers import forwarded_lines
from gateway.exchange import Exchange
from gateway.upstream.targets import Target

#: How many (peer, host) pairs keep their ready-made forwarding lines.
_MEMO = 4096

#: Methods whose requests have a body so often that a missing one must be said (RFC 9110, 8.6).
_BODY_EXPECTED = frozenset((b"POST", b"PUT", b"PATCH"))


def opening(head: Any, target: Target, rest: bytes, query: bytes) -> bytes:
    """What depends on the client's head and the route alone: the first line, Host, its fields."""
    return b"".join(
        (
            head.method,
            b" ",
            target.base,
            rest,
            query,
            b" HTTP/1.1\r\nHost: ",
            target.host or head.host,
            b"\r\n",
            head.block,
        )
    )


def closing(method: bytes, body: Any) -> bytes:
    """The body's framing and the blank line."""
    if body is not None:
        if body.length >= 0:
            return b"Content-Length: %d\r\n\r\n" % body.length
        return b"Transfer-Encoding: chunked\r\n\r\n"
    return b"Content-Length: 0\r\n\r\n" if method in _BODY_EXPECTED else b"\r\n"


class HeadWriter:
    """Writes heads; remembers the forwarding lines of clients that come again."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str | None, bytes, bool], bytes] = {}

    def write(self, face: Any, exchange: Exchange, target: Target) -> bytes:
        """The whole head, blank line included."""
        head = face.head
        identity = exchange.identity
        named = identity.headers if identity is not None else b""
        assertion = exchange.terms.assertion if exchange.terms is not None else None
        if assertion is not None and identity is not None:
            path = target.base + exchange.rest + exchange.query
            named += assertion.line(
                identity, exchange.began, head.method, path, exchange.request_id
            )
        return b"".join(
            (
                opening(head, target, exchange.rest, exchange.query),
                face.more,
                named,
                exchange.request_id_line,
                self.forwarded(exchange, head),
                closing(head.method, face.body),
            )
        )

    def forwarded(self, exchange: Exchange, head: Any) -> bytes:
        """Via and the X-Forwarded lines."""
        peer = exchange.peer
        if exchange.trusted and head.noted:
            return _via(head) + forwarded_lines(
                True, peer or "unix", b"http", head.host, head.noted
            )
        key = (peer, head.host, head.http11)
        lines = self._lines.get(key)
        if lines is None:
            lines = _via(head) + forwarded_lines(
                exchange.trusted, peer or "unix", b"http", head.host, ()
            )
            if len(self._lines) >= _MEMO:
                self._lines.clear()
            self._lines[key] = lines
        return lines


def _via(head: Any) -> bytes:
    """RFC 9110 section 7.6.3: the version the message came in, and a pseudonym."""
    return b"Via: 1.1 gateway\r\n" if head.http11 else b"Via: 1.0 gateway\r\n"
