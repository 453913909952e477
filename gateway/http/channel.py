# -*- test-case-name: tests.http.test_channel -*-
"""
Lets one unambiguous request after another through from a client's connection; refuses
anything else with 400, 408, 414, 431, 501 or 505 and closes.

Pipelined requests wait, unread beyond a bound, until the answer before them is
complete, so answers are in order by construction. While an answer streams, the client's
socket drives its producer; while a body streams, its taker drives the socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from gateway.cores import COMPILED
from gateway.http.body import HOLD, Body
from gateway.http.faults import HeadFault
from gateway.http.line import ANSWER, CLOSED, DRAIN, HEAD, IDLE, Line
from gateway.http.request import Request
from gateway.http.sweep import NEVER
from gateway.http.wire import writer_of

if TYPE_CHECKING:
    from gateway.http.site import Site

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: How often a half-closed client is asked whether it is still there (see _probe).
PROBES = 2


@implementer(IHalfCloseableProtocol)
class Channel(Line):
    """
    One client's connection: its requests and their answers.

    @ivar peer: the peer's address as text, or C{None} for a UNIX socket.
    @ivar door: the factory of the port it came through, where there are several.
    """

    door: object = None

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.peer: str | None = None
        self._buffer = b""
        self._scanned = 0
        self._request: Request | None = None
        self._body: Body | None = None
        self._advancing = False
        self._probes = 0
        self._idle = 0.0

    # -- the socket's events

    def connectionMade(self) -> None:
        """A client has come."""
        host = self.transport.getPeer()
        self.peer = getattr(host, "host", None)
        no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if no_delay is not None and self.peer is not None:
            no_delay(True)
        self.write = writer_of(self.transport)
        self.wired(self.transport)
        self.deadline = self.site.sweep.after(self.site.limits.header_timeout)
        self.retimed()
        self.site.opened(self)

    def retimed(self) -> None:
        """The site's limits or its sweep's interval are others than before."""
        self._idle = self.site.sweep.interval + self.site.limits.idle_timeout

    def received(self, data: bytes) -> None:
        """Bytes from the client: a head, a piece of a body, or something too early."""
        if self._state is IDLE:
            if data.endswith(b"\r\n\r\n"):
                # One whole head and nothing else, as most are: known heads have no blank line
                # in them, so nobody need look for one.
                site = self.site
                raw = data[:-4]
                found = site.heads.recall(raw)
                if (
                    found is not None
                    and not found[0].length
                    and len(raw) <= site.limits.max_head
                ):
                    self._state = ANSWER
                    self.deadline = NEVER
                    head, authorization, more = found
                    self._request = request = Request(self, head, authorization, more, raw, None)
                    # L{_render}, one call shorter.
                    try:
                        result = site.resource.render(request)
                    except Exception:
                        site.broken(request)
                        return
                    if result is not NOT_DONE_YET:
                        request.write_whole(result)
                    return
            self._buffer = data
            self._advance()
        elif self._body is not None:
            self._feed_body(data)
        elif self._request is None:
            if self._state is DRAIN:
                self.drain(len(data))
            elif self._state is not CLOSED:
                if self._buffer:
                    data = self._buffer + data
                self._buffer = data
                self._advance()
        else:
            self._buffer = self._buffer + data if self._buffer else data
            if len(self._buffer) > HOLD:
                self.pause_reading()

    if not COMPILED:
        dataReceived = received

    def readConnectionLost(self) -> None:
        """
        The client has said its last word. What it has asked for whole is still answered
        (RFC 9112 section 9.6); a request broken off in the middle is gone.
        """
        self._half_closed = True
        if self._state is DRAIN or self._state is IDLE:
            self._state = CLOSED
            self.transport.loseConnection()
        elif self._request is None or self._body is not None:
            self.abort()
        else:
            self.rearm()

    def writeConnectionLost(self) -> None:
        """Our half is closed (see L{end}): nothing to do."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The connection is gone; whatever was under way is told."""
        state, self._state = self._state, CLOSED
        if state is not CLOSED or self._request is not None:
            self._gone("client_gone")
        self.site.closed(self)

    def _gone(self, why: str) -> None:
        self.deadline = NEVER
        self._buffer = b""
        body, self._body = self._body, None
        request, self._request = self.request, None
        self._producer = None
        if request is not None:
            request.cut(why)
        if body is not None:
            body.gone(why)

    # -- requests in

    def _advance(self) -> None:
        """Take complete heads off the buffer and have them answered, one after the other."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._request is None and self._buffer and self._state in (IDLE, HEAD):
                end = self._buffer.find(b"\r\n\r\n", self._scanned)
                if end < 0:
                    self._incomplete()
                    return
                buffer = self._buffer
                self._begin(buffer[:end], buffer[end + 4 :])
        finally:
            self._advancing = False

    def _begin(self, raw: bytes, rest: bytes) -> None:
        """A whole head has come, and C{rest} behind it."""
        site = self.site
        self._scanned = 0
        if len(raw) > site.limits.max_head:
            self.refuse(431)
            return
        try:
            head, authorization, more = site.heads.read(raw)
        except HeadFault as fault:
            self.refuse(fault.status)
            return
        self._state = ANSWER
        self.deadline = NEVER
        if head.length == 0:
            self._buffer = rest
            self._request = request = Request(self, head, authorization, more, raw, None)
        else:
            self._buffer = b""
            self._body = body = Body(self, head.length, head.expect_continue)
            self._request = request = Request(self, head, authorization, more, raw, body)
            self.deadline = site.sweep.after(site.limits.body_timeout)
            if rest:
                self._feed_body(rest)
        if self._request is request:
            self._render(request)

    def _render(self, request: Request) -> None:
        site = self.site
        try:
            result = site.resource.render(request)
        except Exception:
            site.broken(request)
            return
        if result is not NOT_DONE_YET:
            request.write_whole(result)

    def _incomplete(self) -> None:
        """No blank line yet: is what there is still worth waiting for?"""
        buffer, limits = self._buffer, self.site.limits
        if self._state is IDLE:
            self._state = HEAD
            self.deadline = self.site.sweep.after(limits.header_timeout)
        self._scanned = max(0, len(buffer) - 3)
        line = buffer.find(b"\r\n", 2 if buffer.startswith(b"\r\n") else 0)
        if line < 0 and len(buffer) > limits.max_request_line + 32:
            self.refuse(414)
        elif buffer.count(b"\n") != buffer.count(b"\r\n"):
            # A bare LF can only end in 400, and the blank line would never come.
            self.refuse(400)
        elif len(buffer) > limits.max_head:
            self.refuse(431)

    def _feed_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        if self._request is not None and not self._slow:
            self.deadline = self.site.sweep.after(self.site.limits.body_timeout)
        try:
            rest = body.feed(data)
        except HeadFault:
            self._broken_body(body)
            return
        if rest is None or self._body is not body:
            return  # more is to come, or the connection is closing meanwhile
        self._body = None
        self._buffer = rest
        if self._request is None:
            self._next()
        else:
            self.rearm()

    def _broken_body(self, body: Body) -> None:
        """Bad chunk framing: 400 if nothing has been answered yet, else cut; never go on."""
        if self._body is not body:
            return  # whoever took the body has answered already
        request = self._request
        if request is None or request.started:
            self.abort()
        else:
            request.fault(400)

    # -- answers out

    def finished(self, request: Request) -> None:
        """The request's answer is written completely; called by L{Request} only."""
        self._request = None
        body = self._body
        if (
            body is None
            and self._producer is None
            and request.keep_alive
            and self._reading
            and not self._buffer
            and not self._half_closed
        ):
            self._state = IDLE
            self.deadline = self.site.sweep.now + self._idle
            return
        if self._producer is not None:
            self.unregister_producer()
        if body is not None:
            body.abandon()
        if not request.keep_alive:
            self._close(unread=body is not None)
        elif body is None:
            self._next()
        else:  # little is left of the body: swallow it, then go on
            self.deadline = self.site.sweep.after(self.site.limits.body_timeout)
            self.resume_reading()

    def may_persist(self, request: Request) -> bool:
        """Whether the connection can carry another request after this answer."""
        body = self._body
        return (
            request.head.keep_alive
            and not self.site.draining
            and (body is None or body.swallowable())
        )

    def _next(self) -> None:
        """Ready for another request; those that wait in the buffer go first."""
        self._state = IDLE
        self._probes = 0
        more = b"\r\n\r\n" in self._buffer if self._buffer else False
        if self._half_closed and not more:
            self._close(unread=False)
            return
        self.deadline = self.site.sweep.after(self.site.limits.idle_timeout)
        if not self._reading:
            self.resume_reading()
        if self._buffer:
            self._advance()

    def refuse(self, status: int) -> None:
        """Answer a request that cannot be understood, and close."""
        self._request = None
        self._state = ANSWER
        self.write(self.site.fault(status))
        self._close(unread=True)

    def _close(self, unread: bool) -> None:
        """Close after what is written has left; C{unread}: more than the buffer is not read."""
        unread = unread or bool(self._buffer)
        self._buffer = b""
        self._body = None
        self.end(unread)

    def abort(self) -> None:
        """Cut the connection at once; nothing more is written."""
        state, self._state = self._state, CLOSED
        if state is not CLOSED:
            self._gone("client_gone" if self._half_closed else "cut")
        self.transport.abortConnection()

    def close_if_idle(self) -> bool:
        """
        Close now if nothing is under way, else after the answer; whether nothing was.

        A request may be on its way, so that this is for clients who have had time enough.
        """
        if self._state is IDLE:
            self._close(unread=False)
            return True
        if self.request is not None:
            self.request.keep_alive = False
        return False

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body (RFC 9110 section 10.1.1)."""
        self.write(CONTINUE)

    # -- time

    def rearm(self) -> None:
        """While an answer is under way: whom are we waiting for, and how long?"""
        limits, sweep = self.site.limits, self.site.sweep
        if self._slow:
            self.deadline = sweep.after(limits.send_timeout)
        elif self._body is not None and self._reading:
            self.deadline = sweep.after(limits.body_timeout)
        elif self._half_closed and self._probes < PROBES:
            self.deadline = sweep.after(0)
        else:
            self.deadline = NEVER

    def expire(self) -> None:
        """The deadline has passed."""
        if self._state is HEAD:
            self.refuse(408)
        elif self._state is DRAIN:
            self.shut()
        elif self._state is IDLE:
            self._close(unread=False)
        elif self._slow or self._state is CLOSED:
            # A slow reader may be slow, but it must take something.
            if not self.progressed():
                self.abort()
        elif self._state is ANSWER and self._body is not None and self._request is not None:
            self._late_body(self._request, self._body)
        elif self._state is ANSWER and self._half_closed:
            self._probe()
        else:
            self.abort()

    def _late_body(self, request: Request, body: Body) -> None:
        if not request.started:
            body.gone("timeout")
        if self._request is request:
            if request.started:
                self.abort()
            else:
                request.fault(408)

    def _probe(self) -> None:
        """
        Find out whether a half-closed client is still there.

        A client that has closed altogether looks the same as one that has only finished
        sending, until something is written to it. C{100 Continue} is what any HTTP/1.1
        client must be able to skip (RFC 9110 section 15.2): a live one skips it, a dead
        one's kernel answers with a reset, which frees the upstream.
        """
        request = self.request
        self._probes += 1
        self.rearm()
        if request is not None and not request.started and request.head.http11:
            self.write(CONTINUE)
