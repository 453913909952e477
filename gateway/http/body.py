# -*- test-case-name: tests.http.test_channel -*-
"""
Lets a request's body through piece by piece; ends it when it breaks its framing or limit.

Nothing is held beyond L{HOLD} bytes: until somebody takes the body, and while the
taker is slow, the client's socket is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from gateway.http.chunks import Chunked
from gateway.http.faults import HeadFault
from gateway.http.interfaces import IBodyTaker, IStreamedBody

if TYPE_CHECKING:
    from gateway.http.channel import Channel

#: Bytes held of a body nobody takes yet; also the most that is swallowed after an early answer.
HOLD = 65536


@implementer(IStreamedBody)
class Body:
    """
    A body on its way from a L{Channel}.

    @ivar length: declared bytes, or -1 when chunked.
    @ivar received: bytes of payload so far.
    @ivar trailers: the trailer lines once ended.
    """

    __slots__ = (
        "_channel", "_chunked", "_expects", "_held", "_left", "_limit", "_paused", "_taker",
        "ended", "failed", "length", "received", "trailers",
    )  # fmt: skip

    def __init__(self, channel: Channel, length: int, expects: bool) -> None:
        self._channel = channel
        self.length = length
        self._left = length
        self._chunked = Chunked() if length < 0 else None
        self._expects = expects
        self._held: list[bytes] = []
        self._limit = -1
        self._paused = False
        self._taker: IBodyTaker | None = None
        self.received = 0
        self.ended = False
        self.failed = ""
        self.trailers: list[bytes] = []

    def limit(self, most: int) -> None:
        """See L{IStreamedBody.limit}."""
        self._limit = most
        if self.received > most:
            self._fail("body_size")

    def deliver(self, taker: IBodyTaker) -> None:
        """See L{IStreamedBody.deliver}."""
        self._taker = taker
        if self.failed:
            taker.bodyFailed(self.failed)
            return
        if self._expects:
            self._expects = False
            if not self.received and not self.ended:
                self._channel.send_continue()
        if self._held:
            held = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held = []
            taker.bodyReceived(held)
        if self.ended:
            self._taker = None
            taker.bodyEnded(self.trailers)
        elif not self._paused:
            self._channel.resume_reading()

    def pause(self) -> None:
        """See L{IStreamedBody.pause}."""
        self._paused = True
        if not self.ended:
            self._channel.pause_reading()

    def resume(self) -> None:
        """See L{IStreamedBody.resume}."""
        self._paused = False
        if not self.ended:
            self._channel.resume_reading()

    def swallowable(self) -> bool:
        """Whether so little is left, and so surely sent, that reading it keeps the connection."""
        return not self._expects and not self.failed and 0 <= self._left <= HOLD

    def abandon(self) -> None:
        """Nobody takes the rest: it is read and thrown away."""
        self._taker = None
        self._held = []
        self._limit = -1
        self.failed = self.failed or "abandoned"

    def feed(self, data: bytes) -> bytes | None:
        """
        Take bytes off the wire.

        @return: C{None} while more is to come, else the bytes behind the body's end.
        @raise HeadFault: when the framing is broken; the body has failed then.
        """
        rest: bytes | None = None
        if self._chunked is None:
            if len(data) >= self._left:
                rest = data[self._left :]
                data = data[: self._left] if rest else data
                self.ended = True
            self._left -= len(data)
        else:
            try:
                data = self._chunked.feed(data)
            except HeadFault:
                self._fail("request")
                raise
            if self._chunked.finished:
                rest = self._chunked.rest
                self.trailers = self._chunked.trailers
                self.ended = True
        if data:
            self._take(data)
        if self.ended and not self.failed and self._taker is not None:
            # Let go of the taker: it holds the request, which holds this body.
            taker, self._taker = self._taker, None
            taker.bodyEnded(self.trailers)
        return rest

    def gone(self, why: str) -> None:
        """The rest will never come."""
        if not self.ended:
            self._fail(why)

    def _take(self, data: bytes) -> None:
        self.received += len(data)
        if self.failed:
            return
        if 0 <= self._limit < self.received:
            self._fail("body_size")
        elif self._taker is not None:
            self._taker.bodyReceived(data)
        else:
            self._held.append(data)
            if self.received > HOLD and not self.ended:
                self._channel.pause_reading()

    def _fail(self, why: str) -> None:
        if self.failed:
            return
        self.failed = why
        self._held = []
        taker, self._taker = self._taker, None
        if taker is not None:
            taker.bodyFailed(why)
