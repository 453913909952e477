# -*- test-case-name: tests.http.test_channel -*-
"""
One request and its answer: lets exactly one complete answer out, or cuts the connection.

The fast face (L{Request.answer}, L{Request.begin}) takes ready-made header lines and
writes head and first bytes at once; the stock face (C{setHeader}, C{write}, C{finish},
see L{gateway.http.stock}) is C{IRequest} for any resource of Twisted Web.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from zope.interface import implementer

from gateway.http.chunks import LAST_CHUNK, encode_chunk
from gateway.http.stock import StockFace

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from gateway.http.body import Body
    from gateway.http.channel import Channel
    from gateway.http.heads import RequestHead
    from gateway.http.response_heads import ResponseHead

#: What L{Request.begin} takes for a length nobody knows.
UNKNOWN = -1



def lay_out(first: Any, *names: str) -> None:
    """
    Show CPython all attributes that instances of a class may get.

    It keeps them in one compact layout for all instances, which is decided by what the first
    thirty or so have; an attribute that is first set later makes a dictionary of its own for
    each instance that gets it.
    """
    for name in names:
        setattr(first, name, getattr(type(first), name, None))


STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}


@implementer(IRequest)
class Request(StockFace):
    """
    A request of a L{Channel}.

    @ivar head: the parsed head, maybe shared with other requests: not to be changed.
    @ivar authorization: the values of all Authorization fields.
    @ivar more: field lines to forward beside those of the head, a CRLF behind each.
    @ivar raw: the head as it came.
    @ivar body: the body on its way (C{IStreamedBody}), or C{None} when there is none.
    @ivar code: the answer's status, once known.
    @ivar started: whether some of the answer has been written.
    @ivar extra: header lines to be added to the answer, whoever gives it.
    @ivar stamp: called with the request as the head is written, returns last header lines.
    @ivar on_end: called once, with the request and C{""}, or why the answer is cut; returns
        what C{stamp} would, which is not asked where the answer is given in one go.
    @ivar on_cut: called once when the client is gone or the connection cut.
    @ivar exchange: the application's, made by the site's C{exchange}.
    """

    # Defaults that most requests never read stand on the class.
    code = 200
    keep_alive = False
    extra = b""
    bytes_out = 0
    _mute = False
    _chunking = False
    _declared = UNKNOWN
    stamp: Callable[[Any], bytes] | None = None
    on_end: Callable[[Any, str], bytes] | None = None
    on_cut: Callable[[str], object] | None = None

    def __init__(
        self,
        channel: Channel,
        head: RequestHead,
        authorization: tuple[bytes, ...],
        more: bytes,
        raw: bytes,
        body: Body | None,
    ) -> None:
        self.channel = channel
        self.head = head
        self.authorization = authorization
        self.more = more
        self.raw = raw
        self.method = head.method
        self.body = body
        self.started = False
        self._waiting: list[Deferred[None]] | None = None
        self._done = False
        self.exchange: Any = channel.site.exchange()

    # -- the fast face

    @property
    def peer(self) -> str | None:
        """The peer's address as text, or C{None} for a UNIX socket."""
        peer: str | None = self.channel.peer
        return peer

    def add_lines(self, lines: bytes) -> None:
        """Header lines for the answer, whoever gives it."""
        self.extra += lines

    def answer(self, status: int, lines: bytes, body: bytes = b"", *, close: bool = False) -> None:
        """
        Give the whole answer in one write and finish.

        @param lines: header lines, each ending in CRLF, without framing ones.
        @param close: end the connection after it.
        """
        if self._done or self.started:
            return
        self.begin(status, b"", lines, len(body), body, close=close)
        self.finish()

    def whole(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """
        Pass an answer on that is all there, in one write, and finish.

        @param head: an upstream's, C{plain}, and of C{data}'s length.
        @param lines: header lines that come behind those of the head.
        """
        channel = self.channel
        on_end = self.on_end
        if (
            on_end is None
            or self.body is not None
            or self.started
            or self._done
            or self._waiting is not None
            or not self.head.plain
            or channel.site.draining
        ):
            self.begin(head.status, head.reason, head.block + lines, head.length, data)
            self.finish()
            return
        self.started = self.keep_alive = self._done = True
        self.on_cut = None
        self.code = head.status
        self.bytes_out = head.length
        write = channel.write
        write(b"".join((head.opening, lines, self.extra, on_end(self, ""), head.closing, data)))
        channel.finished(self)

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
        """
        Write the answer's head and its first bytes.

        @param phrase: the reason phrase; empty for the standard one.
        @param length: of the body in bytes; L{UNKNOWN} makes it chunked, or, for
            HTTP/1.0, ended by the connection's end.
        """
        if self._done or self.started:
            return
        self.started = True
        self.code = status
        keep = not close and self.channel.may_persist(self)
        first = STATUS_LINES.get(status) if not phrase else None
        parts = [first or b"HTTP/1.1 %d %s\r\n" % (status, phrase), lines, self.extra]
        if self.stamp is not None:
            parts.append(self.stamp(self))
        self._mute = self.method == b"HEAD" or status in (204, 304)
        if length >= 0:
            if status != 204:
                parts.append(b"Content-Length: %d\r\n" % length)
            self._declared = length
        elif self._mute:
            pass
        elif self.head.http11:
            self._chunking = True
            parts.append(b"Transfer-Encoding: chunked\r\n")
        else:
            keep = False
        self.keep_alive = keep
        if not keep:
            parts.append(b"Connection: close\r\n")
        elif not self.head.http11:
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(b"\r\n")
        if data and not self._mute:
            self.bytes_out = len(data)
            parts.append(encode_chunk(data) if self._chunking else data)
        self.channel.write(b"".join(parts))

    def interim(self, status: int, phrase: bytes, lines: bytes) -> None:
        """Pass an informational (1xx) answer on, to clients that understand it."""
        if not self.started and not self._done and self.head.http11:
            head = b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, phrase, lines)
            self.channel.write(head)

    def write(self, data: bytes) -> None:
        """Some more of the body. Writes the stock face's head first if need be."""
        if self._done:
            return
        if not self.started:
            self.begin_stock(data)
        elif data and not self._mute:
            self.bytes_out += len(data)
            self.channel.write(encode_chunk(data) if self._chunking else data)

    def finish(self, trailers: bytes = b"") -> None:
        """
        The answer is complete. One that is shorter or longer than it declared is cut
        instead: a client must never take it for whole.
        """
        if self._done:
            return
        if not self.started:
            self.begin_stock(b"", whole=True)
        if not self._mute and 0 <= self._declared != self.bytes_out:
            self.channel.abort()
            return
        if self._chunking:
            last = b"0\r\n%s\r\n" % trailers if trailers else LAST_CHUNK
            self.channel.write(last)
        self._end("")
        self.channel.finished(self)

    def fault(self, status: int) -> None:
        """Nothing of the answer has left, and it can't be given: say so, and close."""
        if self._done:
            return
        self.started = True
        self.code = status
        self._end("fault")
        self.channel.refuse(status)

    def abort(self) -> None:
        """Cut the connection: what the client has is not the whole answer."""
        if not self._done:
            self.channel.abort()

    def cut(self, why: str) -> None:
        """The connection is gone; called by the channel only."""
        if not self._done:
            self._end(why)

    def notifyFinish(self) -> Deferred[None]:
        """Fires when the answer is finished, fails when the client is gone first."""
        from twisted.internet.defer import Deferred  # noqa: PLC0415 - off the hot path

        waiting: Deferred[None] = Deferred()
        if self._done:
            waiting.callback(None)
        elif self._waiting is None:
            self._waiting = [waiting]
        else:
            self._waiting.append(waiting)
        return waiting

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the client's socket drive C{producer}."""
        if self._done:
            producer.stopProducing()
        else:
            self.channel.register_producer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Nothing drives the producer any more."""
        if not self._done:
            self.channel.unregister_producer()

    def _end(self, why: str) -> None:
        self._done = True
        on_end = self.on_end
        on_cut = self.on_cut
        # What they belong to belongs to the request in its turn: no cycle outlives the answer.
        self.stamp = self.on_end = self.on_cut = None
        if why and on_cut is not None:
            on_cut(why)
        if on_end is not None:
            on_end(self, why)
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        for each in waiting:
            if why:
                each.errback(Failure(ConnectionDone(why)))
            else:
                each.callback(None)


lay_out(
    Request.__new__(Request), "channel", "head", "authorization", "more", "raw", "method", "body",
    "started", "stamp", "on_end", "on_cut", "_waiting", "_done", "exchange", "code", "keep_alive",
    "extra", "bytes_out", "_mute", "_chunking", "_declared",
)  # fmt: skip
