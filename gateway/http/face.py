# -*- test-case-name: tests.http.test_face -*-
"""
Lets a stage treat any C{IRequest} like the engine's own: the same few verbs over a
request of a stock C{twisted.web.server.Site}.

The engine's L{Request} is its own face. A stock request gets one that is kept on it,
so that all stages see the same. Its body has arrived whole before any stage runs, so
limits on it are looked at after the fact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.http.heads import RequestHead, RequestHeads
from gateway.http.interfaces import IBodyTaker, IStreamedBody
from gateway.http.request import UNKNOWN
from gateway.http.response_heads import ResponseHead

_NAME = "_gateway_face"


def stock_face(request: Any, heads: RequestHeads) -> StockRequestFace:
    """The L{StockRequestFace} of a stock request, always the same one."""
    face: StockRequestFace | None = getattr(request, _NAME, None)
    if face is None:
        face = StockRequestFace(request, heads)
        setattr(request, _NAME, face)
    return face


@implementer(IStreamedBody)
class HeldBody:
    """A body that has arrived whole."""

    def __init__(self, content: Any) -> None:
        content.seek(0)
        self._data: bytes = content.read()
        content.seek(0)
        self.length = self.received = len(self._data)
        self.ended = True

    def limit(self, most: int) -> None:
        """The declared length has told already."""

    def deliver(self, taker: IBodyTaker) -> None:
        """All of it, now."""
        taker.bodyReceived(self._data)
        taker.bodyEnded([])

    def pause(self) -> None:
        """Nothing is on its way."""

    def resume(self) -> None:
        """Nothing is on its way."""


class StockRequestFace:
    """See L{Request}, whose fast face this is, over a request of a stock C{Site}."""

    more = b""

    def __init__(self, request: Any, heads: RequestHeads) -> None:
        self._request = request
        self._heads = heads
        self._head: RequestHead | None = None
        self._body: HeldBody | None = None
        self._stamp: Callable[[Any], bytes] | None = None
        self._done = False
        self._declared = UNKNOWN
        self.method: bytes = request.method
        self.code = 200
        self.started = False
        self.bytes_out = 0
        self.exchange: Any = None
        self.on_end: Callable[[Any, str], object] | None = None
        self.on_cut: Callable[[str], object] | None = None
        request.notifyFinish().addCallbacks(self._finished, self._cut)

    @property
    def head(self) -> RequestHead:
        """The head as the engine's parser sees it (and judges it: may raise C{HeadFault})."""
        if self._head is None:
            stock = self._request
            lines = [b"%s %s HTTP/1.1" % (stock.method, stock.uri)]
            for name, values in stock.requestHeaders.getAllRawHeaders():
                lines.extend(b"%s: %s" % (name, value) for value in values)
            self._head = self._heads.parse(b"\r\n".join(lines))
        return self._head

    @property
    def authorization(self) -> tuple[bytes, ...]:
        """The values of all Authorization fields."""
        return self.head.authorization

    @authorization.setter
    def authorization(self, values: tuple[bytes, ...]) -> None:
        self.head.authorization = values

    @property
    def channel(self) -> Any:
        """The stock channel, which has the transport."""
        return self._request.channel

    @property
    def body(self) -> HeldBody | None:
        """The body, or C{None} when it is empty."""
        if self._body is None and self._request.content is not None:
            held = HeldBody(self._request.content)
            self._body = held if held.length else None
        return self._body

    @property
    def peer(self) -> str | None:
        """The peer's address as text, or C{None} for a UNIX socket."""
        host: str | None = getattr(self._request.getClientAddress(), "host", None)
        return host

    @property
    def stamp(self) -> Callable[[Any], bytes] | None:
        """See L{Request.stamp}."""
        return self._stamp

    @stamp.setter
    def stamp(self, make: Callable[[Any], bytes]) -> None:
        self._stamp = make
        stock = self._request
        write, finish = stock.write, stock.finish

        def stamped() -> None:
            stock.write, stock.finish = write, finish
            self.add_lines(make(self))

        def first_write(data: bytes) -> None:
            stamped()
            write(data)

        def first_finish() -> None:
            stamped()
            finish()

        stock.write, stock.finish = first_write, first_finish

    def add_lines(self, lines: bytes) -> None:
        """Header lines for the answer, whoever gives it; a later one replaces its like."""
        for line in lines.split(b"\r\n"):
            if line:
                name, _, value = line.partition(b": ")
                self._request.responseHeaders.setRawHeaders(name, [value])

    def answer(self, status: int, lines: bytes, body: bytes = b"", *, close: bool = False) -> None:
        """See L{Request.answer}."""
        if not self.started and not self._done:
            self.begin(status, b"", lines, len(body), body, close=close)
            self.finish()

    def whole(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """See L{Request.whole}."""
        self.begin(head.status, head.reason, head.block + lines, head.length, data)
        self.finish()

    def begin(
        self,
        status: int,
        phrase: bytes,
        lines: bytes,
        length: int = UNKNOWN,
        data: bytes = b"",
        *,
        close: bool = False,
    ) -> None:
        """See L{Request.begin}."""
        if self.started or self._done:
            return
        self.started = True
        self.code = status
        self._declared = length
        stock = self._request
        stock.setResponseCode(status, phrase or None)
        for line in lines.split(b"\r\n"):
            if line:
                name, _, value = line.partition(b": ")
                stock.responseHeaders.addRawHeader(name, value)
        if length >= 0:
            stock.responseHeaders.setRawHeaders(b"content-length", [b"%d" % length])
        if close:
            stock.responseHeaders.setRawHeaders(b"connection", [b"close"])
        self.write(data)

    def interim(self, status: int, phrase: bytes, lines: bytes) -> None:
        """A stock request has no way to pass these on."""

    def write(self, data: bytes) -> None:
        """See L{Request.write}."""
        if not self._done:
            self.bytes_out += len(data)
            self._request.write(data)

    def finish(self, trailers: bytes = b"") -> None:
        """See L{Request.finish}; trailers are dropped."""
        if self._done:
            return
        mute = self.method == b"HEAD" or self.code in (204, 304)
        if not mute and 0 <= self._declared != self.bytes_out:
            self.abort()
        else:
            self._request.finish()

    def abort(self) -> None:
        """See L{Request.abort}."""
        if not self._done:
            self._request.transport.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See L{Request.registerProducer}."""
        if not self._done:
            self._request.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See L{Request.unregisterProducer}."""
        if not self._done:
            self._request.unregisterProducer()

    def _finished(self, _result: None) -> None:
        self._end("")

    def _cut(self, _failure: Failure) -> None:
        self._end("client_gone")

    def _end(self, why: str) -> None:
        self._done = True
        self.code = self._request.code
        if why and self.on_cut is not None:
            self.on_cut(why)
        if self.on_end is not None:
            self.on_end(self, why)
