# -*- test-case-name: tests.http.test_heads -*-
"""
Lets an answer's head through that can be read in one way only (RFC 9112); anything else of
an upstream is 502.
"""

from __future__ import annotations

from gateway.cores import ReplyCore
from gateway.http.faults import HeadFault
from gateway.http.fields import (
    CHUNKED,
    CODING,
    CONNECTION,
    CONTENT_LENGTH,
    DROPPED,
    KEEP_ALIVE,
    KINDS,
    MAX_KEPT,
    NOTED,
    PLAIN,
    UNTIL_CLOSE,
    WITHHELD,
    FieldRules,
    Lines,
    second_sight,
    take_named,
    tokens,
)
from gateway.http.grammar import STATUS_LINE
from gateway.http.memo import Memo


class ResponseHead(ReplyCore):
    """
    One answer's head.

    @ivar length: as declared: bytes, -1 for chunked, -2 when the connection's end ends it.
    @ivar opening: the status line we say it in and the end-to-end fields, as C{block} has
        them; a CRLF behind each.
    @ivar closing: what follows our own fields where the body has its declared length.
    @ivar plain: final, persistent, of a declared length, and its status has a body: nothing
        odd about it.
    See L{RequestHead} for the rest.
    """

    __slots__ = ("block", "http11", "keep_alive", "reason")

    status: int
    reason: bytes
    opening: bytes
    closing: bytes
    plain: bool
    http11: bool
    length: int
    keep_alive: bool
    block: bytes
    noted: list[tuple[bytes, bytes]]


class ResponseHeads:
    """
    The parser of answers' heads; every fault is 502.

    @ivar memo: heads that were here before: who finds one there need not have it parsed.
    """

    def __init__(self, rules: FieldRules, max_fields: int = 200, memo_bytes: int = 4 << 20) -> None:
        kept = (CONTENT_LENGTH, CODING, CONNECTION, DROPPED)
        kinds = {
            name: kind
            for name, kind in KINDS.items()
            if kind in kept and name != b"proxy-authenticate"
        }
        self._lines = Lines(rules, memo_bytes, kinds)
        self._max_fields = max_fields
        self._status: dict[bytes, tuple[bool, int, bytes, bytes]] = {}
        self.memo: Memo[ResponseHead] = Memo(memo_bytes)
        self._once: set[int] = set()

    def _status_line(self, line: bytes) -> tuple[bool, int, bytes, bytes]:
        """Parse it, and remember it: there are only so many."""
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise HeadFault(502, "status line")
        first = b"HTTP/1.1 %s %s\r\n" % (match[2], match[3])
        known = match[1] == b"1", int(match[2]), match[3], first
        if len(self._status) < 256 and len(line) < 64:
            self._status[line] = known
        return known

    def parse(self, head: bytes) -> ResponseHead:
        """
        Parse everything before the blank line. Whoever gets it must not change it: within
        a second, all that changes in most answers' heads is nothing, so heads are shared.

        @raise HeadFault: (502) when it is not one unambiguous answer.
        """
        known = self.memo.young.get(head)
        if known is not None:
            return known
        parsed = self._parse(head)
        if len(head) <= MAX_KEPT and second_sight(self._once, head):
            self.memo.keep(head, parsed, 4 * len(head) + 1000)
        return parsed

    def _parse(self, head: bytes) -> ResponseHead:
        lines = head.split(b"\r\n")
        first = lines.pop(0)
        known = self._status.get(first) or self._status_line(first)
        if len(lines) > self._max_fields:
            raise HeadFault(502, "fields")
        parsed = ResponseHead()
        parsed.http11, parsed.status, parsed.reason, opening = known
        parsed.noted = noted = []
        forward: list[bytes] = []
        length: bytes | None = None
        coding: bytes | None = None
        connection: list[bytes] | None = None
        persistent = parsed.http11
        young = self._lines.memo.young
        for line in lines:
            kind, name, value, out = young.get(line) or self._lines.learn(line, 502)
            if kind == PLAIN:
                forward.append(out)
            elif kind in (NOTED, WITHHELD):
                noted.append((name, value))
                if kind == NOTED:
                    forward.append(out)
            elif kind == CONTENT_LENGTH:
                if length is not None:
                    raise HeadFault(502, "Content-Length repeated")
                length = value
            elif kind == CODING:
                if coding is not None or value.lower() != b"chunked":
                    raise HeadFault(502, "Transfer-Encoding")
                coding = value
            elif kind == CONNECTION:
                connection = (connection or []) + tokens(value, 502)
            elif kind == KEEP_ALIVE:
                persistent = True
        if coding is not None:
            if length is not None or not parsed.http11:
                raise HeadFault(502, "Transfer-Encoding")
            parsed.length = CHUNKED
        else:
            parsed.length = int(length) if length is not None else UNTIL_CLOSE
        parsed.keep_alive = persistent
        if connection is not None:
            parsed.keep_alive = b"close" not in connection and (
                persistent or b"keep-alive" in connection
            )
            take_named(forward, connection)
        parsed.block = b"".join(forward)
        parsed.opening = opening + parsed.block
        parsed.closing = b"Content-Length: %d\r\n\r\n" % parsed.length
        parsed.plain = (
            parsed.keep_alive
            and parsed.length >= 0
            and parsed.status >= 200
            and parsed.status not in (204, 304)
        )
        return parsed
