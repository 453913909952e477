# -*- test-case-name: tests.http.test_chunks -*-
"""
Lets a chunked body through as plain bytes (RFC 9112 section 7.1); refuses any framing
that is not beyond doubt with 400.
"""

from __future__ import annotations

from gateway.http.faults import HeadFault
from gateway.http.grammar import CHUNK_SIZE, FIELD

LAST_CHUNK = b"0\r\n\r\n"

#: The longest line with a chunk's size; the size itself has at most 15 digits.
_MAX_LINE = 16

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


def encode_chunk(data: bytes) -> bytes:
    """One chunk. Empty data would end the body, so it becomes nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Chunked:
    """
    The decoder of one body, sans-IO.

    @ivar finished: whether the last chunk and the trailers have been read.
    @ivar rest: what followed them.
    @ivar trailers: the trailer lines as sent, validated.
    """

    __slots__ = ("_buffer", "_left", "_max_trailers", "_state", "finished", "rest", "trailers")

    def __init__(self, max_trailers: int = 8192) -> None:
        self._buffer = b""
        self._state = _SIZE
        self._left = 0
        self._max_trailers = max_trailers
        self.finished = False
        self.rest = b""
        self.trailers: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """
        Take bytes as they come.

        @return: the payload in them.
        @raise HeadFault: (400) when the framing is broken.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out: list[bytes] = []
        at = 0
        while not self.finished:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                if not piece:
                    break
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = _DATA_END
            following = self._frame(data, at)
            if following < 0:
                self._buffer = data[at:]
                break
            at = following
        if self.finished:
            self.rest = data[at:]
        return out[0] if len(out) == 1 else b"".join(out)

    def _frame(self, data: bytes, at: int) -> int:
        """Read one piece of framing; where it ends, or -1 when more is needed."""
        if self._state == _DATA_END:
            if len(data) - at < 2:
                if data[at : at + 1] not in (b"", b"\r"):
                    raise HeadFault(400, "no CRLF behind a chunk")
                return -1
            if data[at : at + 2] != b"\r\n":
                raise HeadFault(400, "no CRLF behind a chunk")
            self._state = _SIZE
            return at + 2
        if self._state == _SIZE:
            return self._size(data, at)
        return self._trailer(data, at)

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + _MAX_LINE + 2)
        line = data[at : end if end >= 0 else at + _MAX_LINE + 1]
        if end < 0:
            text = line.removesuffix(b"\r")
            if len(text) > _MAX_LINE or (text and CHUNK_SIZE.fullmatch(text) is None):
                raise HeadFault(400, "a chunk's size")
            return -1
        if CHUNK_SIZE.fullmatch(line) is None:
            raise HeadFault(400, "a chunk's size")
        self._left = int(line, 16)
        self._state = _DATA if self._left else _TRAILERS
        return end + 2

    def _trailer(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > self._max_trailers or b"\n" in data[at:]:
                raise HeadFault(400, "trailers")
            return -1
        if end == at:
            self.finished = True
            return end + 2
        line = data[at:end]
        self._max_trailers -= len(line) + 2
        if self._max_trailers < 0 or FIELD.fullmatch(line) is None:
            raise HeadFault(400, "a trailer")
        self.trailers.append(line)
        return end + 2
