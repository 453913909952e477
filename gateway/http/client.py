# -*- test-case-name: tests.http.test_client -*-
"""
One connection to an upstream: lets one answer at a time back in, and only an answer
that was asked for.

Bytes nobody asked for, bytes beyond an answer, and anything two parsers could read
differently end the connection before another request is on it.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Typing

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.cores import COMPILED, UpstreamCore
from gateway.http.chunks import Chunked
from gateway.http.faults import HeadFault
from gateway.http.response_heads import ResponseHead
from gateway.http.sweep import NEVER
from gateway.http.wire import writer_of

if TYPE_CHECKING:
    from gateway.http.pool import Pool

#: ResponseHead.length for a body that ends with the connection.
UNTIL_CLOSE = -2
CHUNKED = -1

#: The longest head of an answer, bytes; nginx's proxy_buffer_size is 4 to 8 KiB.
MAX_HEAD = 65536

#: Informational answers before the real one; more is an upstream that never answers.
MAX_INTERIM = 64


class Asker(Typing):
    """Who asked: takes the answer as it comes."""

    def whole(self, head: ResponseHead, data: bytes) -> None:
        """An answer with nothing odd about it (C{head.plain}), and all of its body."""

    def answered(self, head: ResponseHead, length: int, data: bytes, ended: bool) -> None:
        """The head, its body's length (or CHUNKED, UNTIL_CLOSE) and the body's first bytes."""

    def interim(self, head: ResponseHead) -> None:
        """An informational (1xx) answer."""

    def data(self, data: bytes) -> None:
        """More of the body."""

    def ended(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def failed(self, why: str) -> None:
        """
        There will be no (complete) answer: C{closed} (before a byte of it), C{broken}
        (in it), C{invalid} or C{timeout}.
        """

    def pauseProducing(self) -> None:
        """The upstream is slow to take the request's body."""

    def resumeProducing(self) -> None:
        """It takes more."""


@implementer(IPushProducer)
class UpstreamConnection(UpstreamCore, Protocol):
    """
    A connection of a L{Pool}.

    @ivar idle_since: the sweep's seconds when the last answer ended.
    @ivar reused: whether it has carried an answer before.
    @ivar poll: whether something has arrived, after so many milliseconds at most.
    """

    transport: Any
    _write: Callable[[bytes], object]
    poll: Callable[[int], list[Any]]

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.deadline = NEVER
        self.idle_since = 0.0
        self.reused = False
        self.lost = False
        self._asker: Asker | None = None
        self._is_head = False
        self._sent = True
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._left = 0
        self._chunked: Chunked | None = None
        self._interims = 0
        self._paused = False

    # -- asking

    def ask(self, asker: Asker, head: bytes, method: bytes, sent: bool) -> None:
        """
        Send a request's head.

        @param head: head and, where it is at hand, the body's first bytes.
        @param sent: whether that is the whole request.
        """
        self._asker = asker
        self._is_head = method == b"HEAD"
        self._sent = sent
        write = self._write
        write(head)
        if sent:
            pool = self._pool
            self.deadline = pool.sweep.now + pool.patience
        else:
            # While the body is on its way the client's deadline runs, not the upstream's.
            self.deadline = NEVER
            self.transport.registerProducer(_BodySource(self), True)

    def send(self, data: bytes) -> None:
        """More of the request's body, framed."""
        if not self._sent:
            self._write(data)

    def sent(self) -> None:
        """The request's body is complete."""
        if not self._sent:
            self._sent = True
            self.transport.unregisterProducer()
            self.full(False)
            if self._head is None:
                self.deadline = self._pool.sweep.after(self._pool.limits.response_timeout)

    def full(self, full: bool) -> None:
        """The upstream takes (no) more of the body: it must go on within response_timeout."""
        asker = self._asker
        if asker is None:
            return
        if self._head is None:
            self.deadline = (
                self._pool.sweep.after(self._pool.limits.response_timeout) if full else NEVER
            )
        if full:
            asker.pauseProducing()
        else:
            asker.resumeProducing()

    def abandon(self) -> None:
        """Whoever asked is gone: nobody may get what is still to come."""
        self._asker = None
        self.close()

    def close(self) -> None:
        """End the connection; it is never used again."""
        self._sent = True
        self.deadline = NEVER
        self._pool.discard(self)
        self.transport.abortConnection()

    # -- the socket's events

    def connectionMade(self) -> None:
        """The upstream has accepted."""
        no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)
        self._write = writer_of(self.transport)
        self.poll = _poll_of(self.transport)
        self.wired(self.transport)
        if isinstance(self.transport, Connection) and not getattr(self.transport, "TLS", False):
            # The endpoint's wrapper has done its work: it need not see every byte.
            self.transport.protocol = self
        self._pool.sweep.watch(self)

    def received(self, data: bytes) -> None:
        """Bytes of an answer, or bytes nobody asked for."""
        asker = self._asker
        if asker is None:
            if not self.lost:
                self.close()
        elif self._head is None:
            if self._buffer:
                data = self._buffer + data
            pool = self._pool
            raw, end, rest = data.partition(b"\r\n\r\n")
            head = pool.heads.memo.young.get(raw)
            if head is None:
                head = self._learn(raw, end, data)
                if head is None:
                    return
            self._buffer = b""
            if (
                head.plain
                and head.length == len(rest)
                and self._sent
                and not self._is_head
                and not self._paused
            ):
                # The whole answer at once, as most are.
                self._asker = None
                self._interims = 0
                pool.release(self)
                asker.whole(head, rest)
            elif head.status >= 200:
                self._begin(asker, head, rest)
            else:
                self._interim(asker, head, rest)
        else:
            self.deadline = self._pool.sweep.after(self._pool.limits.read_timeout)
            self._body(asker, data)

    if not COMPILED:
        dataReceived = received

    def _learn(self, raw: bytes, end: bytes, data: bytes) -> ResponseHead | None:
        """A head that is new, if it is whole and in order; C{end} is the blank line."""
        if len(raw) > MAX_HEAD:
            self._fail("invalid")
            return None
        if not end:
            self._buffer = data
            return None
        try:
            return self._pool.heads.parse(raw)
        except HeadFault:
            self._fail("invalid")
            return None

    def _interim(self, asker: Asker, head: ResponseHead, rest: bytes) -> None:
        self._interims += 1
        if head.status == 101 or self._interims > MAX_INTERIM:
            self._fail("invalid")  # nobody asked to switch protocols
            return
        asker.interim(head)
        if rest and self._asker is asker:
            self.dataReceived(rest)

    def _begin(self, asker: Asker, head: ResponseHead, rest: bytes) -> None:
        """Where does the body end? RFC 9112 section 6.3."""
        self._head = head
        length = head.length
        if self._is_head or head.status in (204, 304):
            # A length is what GET would have had.
            self._left = 0
            ended = True
        elif length >= 0:
            self._left = length - len(rest)
            ended = self._left <= 0
        elif length == CHUNKED:
            self._chunked = Chunked()
            ended = False
        else:
            ended = False
        if self._left < 0 or (ended and length < 0 and rest):
            self._extra(asker, head, length, rest)
            return
        if ended and (self._is_head or head.status in (204, 304)) and rest:
            self._extra(asker, head, length, b"")
            return
        self.deadline = self._pool.sweep.after(self._pool.limits.read_timeout)
        if self._chunked is None:
            if ended:
                self._end()
            asker.answered(head, length, rest, ended)
            return
        asker.answered(head, length, b"", False)
        if rest and self._asker is asker:
            self._body(asker, rest)

    def _extra(self, asker: Asker, head: ResponseHead, length: int, rest: bytes) -> None:
        """More than the answer came with it: the answer counts, the connection ends."""
        self._asker = None
        self.close()
        asker.answered(head, length, rest[:length] if length > 0 else b"", True)

    def _body(self, asker: Asker, data: bytes) -> None:
        if self._chunked is not None:
            self._chunk(asker, self._chunked, data)
            return
        head = self._head
        assert head is not None
        if head.length >= 0:
            extra = len(data) - self._left
            if extra > 0:
                data = data[: self._left]
            self._left -= len(data)
            if self._left == 0:
                # The data first: while it is written, the client may still pause us.
                asker.data(data)
                if self._asker is asker:
                    self._over(asker, extra > 0, [])
                return
        asker.data(data)

    def _chunk(self, asker: Asker, chunked: Chunked, data: bytes) -> None:
        try:
            data = chunked.feed(data)
        except HeadFault:
            self._fail("broken")
            return
        if data:
            asker.data(data)
        if chunked.finished and self._asker is asker:
            self._over(asker, bool(chunked.rest), chunked.trailers)

    def _over(self, asker: Asker, extra: bool, trailers: list[bytes]) -> None:
        """The body is complete; what follows it nobody asked for."""
        if extra:
            self._asker = None
            self.close()
        else:
            self._end()
        asker.ended(trailers)

    def _end(self) -> None:
        """The answer is complete: back to the pool, if all is clean."""
        head = self._head
        assert head is not None
        self._asker = None
        self._head = None
        self._chunked = None
        self._interims = 0
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        if self._sent and head.keep_alive and head.length != UNTIL_CLOSE:
            self._pool.release(self)
        else:
            self.close()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The connection is gone; for some answers that is their proper end."""
        self.lost = True
        self.deadline = NEVER
        self._pool.sweep.forget(self)
        self._pool.discard(self)
        asker, self._asker = self._asker, None
        if asker is None:
            return
        head = self._head
        if head is None:
            asker.failed("broken" if self._buffer or self._interims else "closed")
        elif head.length == UNTIL_CLOSE and reason is not None and reason.check(ConnectionDone):
            asker.ended([])
        else:
            asker.failed("broken")

    def expire(self) -> None:
        """The deadline has passed: idle for too long, or the upstream hangs."""
        if self._asker is None:
            self.close()
        elif self._head is not None and self._paused:
            self.deadline = NEVER  # the client's slowness, not the upstream's
        else:
            self._fail("timeout")

    def _fail(self, why: str) -> None:
        asker, self._asker = self._asker, None
        self.close()
        if asker is not None:
            asker.failed(why)

    # -- flow: the client's socket drives the answer

    def pauseProducing(self) -> None:
        """The client is slow: stop reading."""
        if not self._paused:
            self._paused = True
            self.deadline = NEVER
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The client takes more."""
        if self._paused:
            self._paused = False
            if self._asker is not None:
                self.deadline = self._pool.sweep.after(self._pool.limits.read_timeout)
            if not self.lost:
                self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone; whoever asked abandons us."""


def _poll_of(transport: Any) -> Callable[[int], list[Any]]:
    """Asks the kernel whether something is there to be read; waits so many milliseconds."""
    poll = select.poll()
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        # Else there is no socket under it, and nothing to ask.
        poll.register(transport.getHandle(), select.POLLIN)
    return poll.poll


@implementer(IPushProducer)
class _BodySource:
    """Lets the upstream's socket drive the request's body."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        self._connection.full(True)

    def resumeProducing(self) -> None:
        self._connection.full(False)

    def stopProducing(self) -> None:
        pass
