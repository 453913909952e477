# -*- test-case-name: tests.upstream.test_forward -*-
"""
Lets a request out to its upstream and the answer back, both streamed; answers 502, 503
or 504 when there is none.

The last stage. An answer that breaks off is cut, never completed. A request is sent a
second time only when no one can have seen it: see L{Forwarding._retry}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.server import NOT_DONE_YET

from gateway.answers import refuse
from gateway.exchange import TRAILERS, Exchange, exchange_of
from gateway.http.chunks import LAST_CHUNK, encode_chunk
from gateway.http.client import UpstreamConnection
from gateway.http.fields import FieldRules, trailer_block
from gateway.http.request import UNKNOWN, Request, lay_out
from gateway.http.response_heads import ResponseHead
from gateway.shell import Shell
from gateway.upstream.headers import HeadWriter
from gateway.upstream.targets import Target
from gateway.verdicts import Reason, Refused

#: RFC 9110 section 9.2.2.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))

#: How often one request meets a reused connection that had just been closed.
_RETRIES = 3

_UNAVAILABLE = {
    "queue": Refused(Reason.QUEUE, retry_after=1),
    "refused": Refused(Reason.UPSTREAM),
    "timeout": Refused(Reason.UPSTREAM_TIMEOUT),
}
_FAILED = {
    "closed": Refused(Reason.UPSTREAM),
    "broken": Refused(Reason.UPSTREAM),
    "invalid": Refused(Reason.UPSTREAM),
    "timeout": Refused(Reason.UPSTREAM_TIMEOUT),
}
_BODY_FAILED = {
    "body_size": Refused(Reason.BODY_SIZE),
    "request": Refused(Reason.BAD_REQUEST),
    "timeout": Refused(Reason.REQUEST_TIMEOUT),
}


class Forwarded(Shell):
    """
    The innermost stage.

    @param clock: monotonic seconds, for the circuit.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.heads = HeadWriter()

    def render(self, request: Any) -> int:
        """Send it on its way."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        target = exchange.terms.target if exchange.terms is not None else None
        if target is None:
            return refuse(face, exchange, Refused(Reason.ROUTE))
        return self.send(face, exchange, target, self.heads.write(face, exchange, target))

    def send(self, face: Any, exchange: Exchange, target: Target, head: bytes) -> int:
        """Send it with that head."""
        exchange.upstream = target.name
        method = face.method
        forwarding = Forwarding(self.clock, face, exchange, target, head)
        face.on_cut = forwarding.cut
        connection = target.pool.take(method in IDEMPOTENT)
        if connection is None:
            target.pool.wait(forwarding)
        elif face.body is None:
            forwarding.connection = connection
            connection.ask(forwarding, head, method, True)
        else:
            forwarding.connected(connection)
        return NOT_DONE_YET


class Forwarding:
    """
    One request on its way: waits for a connection, asks, takes the body there and the
    answer back.

    @ivar connection: on which it asks, while it does.
    """

    connection: UpstreamConnection | None = None
    _sent_body = False
    _tries = 0

    def __init__(
        self, clock: Callable[[], float], face: Any, exchange: Exchange, target: Target, head: bytes
    ) -> None:
        self._clock = clock
        self._face = face
        self._exchange = exchange
        self._target = target
        self._head = head

    # -- Waiter: a connection

    def connected(self, connection: UpstreamConnection) -> None:
        """Ask."""
        self.connection = connection
        face = self._face
        body = face.body
        if body is None:
            connection.ask(self, self._head, face.method, True)
            return
        # The head leaves with the first bytes of the body, if some are there.
        body.deliver(self)
        if self.connection is connection and not self._sent_body:
            connection.ask(self, self._head, face.method, False)
            self._sent_body = True

    def unavailable(self, why: str) -> None:
        """No connection to be had."""
        self._settle(failed=why != "queue")
        refuse(self._face, self._exchange, _UNAVAILABLE[why])

    # -- IBodyTaker: the request's body

    def bodyReceived(self, data: bytes) -> None:
        """Send a piece on."""
        connection, body = self.connection, self._face.body
        if connection is None:
            return
        piece = data if body.length >= 0 else encode_chunk(data)
        if self._sent_body:
            connection.send(piece)
        else:
            self._sent_body = True
            connection.ask(self, self._head + piece, self._face.method, False)

    def bodyEnded(self, trailers: list[bytes]) -> None:
        """The request is complete."""
        connection, body = self.connection, self._face.body
        if connection is None:
            return
        if body.length < 0:
            last = trailer_block(self._trailers, trailers) if trailers else b""
            piece = b"0\r\n%s\r\n" % last if last else LAST_CHUNK
            if not self._sent_body:
                self._sent_body = True
                connection.ask(self, self._head + piece, self._face.method, False)
            else:
                connection.send(piece)
        elif not self._sent_body:
            self._sent_body = True
            connection.ask(self, self._head, self._face.method, False)
        connection.sent()

    def bodyFailed(self, why: str) -> None:
        """The client broke its request off, or the gateway did: nothing more is forwarded."""
        self._leave()
        self._settle(failed=None)
        refused = _BODY_FAILED.get(why)
        if self._face.started:
            self._exchange.reason = refused.reason.code if refused is not None else why
            self._face.abort()
        elif refused is not None:
            refuse(self._face, self._exchange, refused)

    def pauseProducing(self) -> None:
        """The upstream is slow to take the body."""
        if self._face.body is not None:
            self._face.body.pause()

    def resumeProducing(self) -> None:
        """It takes more."""
        if self._face.body is not None:
            self._face.body.resume()

    # -- Asker: the answer

    def interim(self, head: ResponseHead) -> None:
        """1xx: pass on; 100 has been said by us."""
        if head.status != 100:
            self._face.interim(head.status, head.reason, head.block)

    def whole(self, head: ResponseHead, data: bytes) -> None:
        """The answer, all of it."""
        self.connection = None
        target, exchange = self._target, self._exchange
        if head.status in target.statuses:
            self._settle(failed=True)
        elif exchange.permit is not None:
            if target.circuit.clear is None:
                target.circuit.succeeded(exchange.permit)
            exchange.permit = None
        self._face.whole(head, self._noted(head) if head.noted else b"", data)

    def answered(self, head: ResponseHead, length: int, data: bytes, ended: bool) -> None:
        """The head of the answer, and what came with it."""
        face, status = self._face, head.status
        self._settle(status in self._target.statuses)
        lines = head.block + self._noted(head) if head.noted else head.block
        if ended:
            self.connection = None
        face.begin(status, head.reason, lines, length if length >= 0 else UNKNOWN, data)
        if ended:
            face.finish()
        elif self.connection is not None:
            face.registerProducer(self.connection, True)

    def data(self, data: bytes) -> None:
        """More of the answer."""
        self._face.write(data)

    def ended(self, trailers: list[bytes]) -> None:
        """The answer is complete."""
        self.connection = None
        self._face.finish(trailer_block(self._trailers, trailers) if trailers else b"")

    def failed(self, why: str) -> None:
        """No answer, or not all of it."""
        connection, self.connection = self.connection, None
        if self._face.started:
            self._exchange.reason = "upstream_cut" if why != "timeout" else "upstream_timeout"
            self._settle(failed=True)
            self._face.abort()
        elif not self._retry(connection, why):
            self._settle(failed=True)
            refuse(self._face, self._exchange, _FAILED[why])

    def _retry(self, connection: UpstreamConnection | None, why: str) -> bool:
        """
        Send again: only when a reused connection closed before a byte of the answer (the
        upstream's idle time-out crossed our request), the method is idempotent and no
        byte of a body has left (RFC 9110 section 9.2.2).
        """
        if (
            why != "closed"
            or connection is None
            or not connection.reused
            or self._sent_body
            or self._face.method not in IDEMPOTENT
            or self._tries >= _RETRIES
        ):
            return False
        self._tries += 1
        self._target.pool.wait(self)
        return True

    # -- ends

    def cut(self, why: str) -> None:
        """The client is gone."""
        self._leave()
        self._settle(failed=None)

    def _leave(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()
        else:
            self._target.pool.leave(self)

    def _settle(self, failed: bool | None) -> None:
        """Tell the circuit how it went, once; C{None}: undecided."""
        permit, self._exchange.permit = self._exchange.permit, None
        if permit is None:
            return
        circuit = self._target.circuit
        if failed is None:
            circuit.undecided(permit)
        elif failed:
            circuit.failed(permit, self._clock())
        else:
            circuit.succeeded(permit)

    @property
    def _trailers(self) -> FieldRules:
        """Which fields behind a body go on."""
        terms = self._exchange.terms
        return terms.trailers if terms is not None else TRAILERS

    def _noted(self, head: ResponseHead) -> bytes:
        """The upstream's own word on origins: ours replaces it where CORS is on."""
        terms = self._exchange.terms
        if terms is not None and terms.cors is not None and terms.cors.enabled:
            return b""
        return b"".join(b"%s: %s\r\n" % pair for pair in head.noted)


lay_out(
    Forwarding.__new__(Forwarding), "_clock", "_face", "_exchange", "_target", "_head",
    "connection", "_sent_body", "_tries",
)  # fmt: skip
