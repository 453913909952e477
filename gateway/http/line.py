# -*- test-case-name: tests.http.test_channel -*-
"""
What a client's connection is below its requests: lets bytes flow both ways, each as fast as who
takes them; ends when what was written has left, and so that it arrives.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from gateway.cores import ChannelCore
from gateway.http.body import HOLD
from gateway.http.sweep import NEVER

if TYPE_CHECKING:
    from gateway.http.site import Site

#: What the connection waits for; the name of the deadline that is running.
IDLE, HEAD, ANSWER, DRAIN, CLOSED = "idle", "head", "answer", "drain", "closed"


@implementer(IPushProducer)
class Line(ChannelCore, Protocol):
    """
    A connection of one of the site's clients.

    @ivar deadline: when L{expire} is due, in the sweep's seconds.
    @ivar write: sends bytes, at once where that is possible.
    """

    transport: Any
    write: Callable[[bytes], object]

    def __init__(self, site: Site) -> None:
        self.site = site
        self.deadline = NEVER
        self._state = IDLE
        self._reading = True
        self._half_closed = False
        self._producer: Any = None
        self._slow = False
        self._acked = -1
        self._drained = 0

    def rearm(self) -> None:
        """While an answer is under way: whom are we waiting for, and how long?"""
        raise NotImplementedError

    def expire(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    # -- flow, both ways

    def pause_reading(self) -> None:
        """Stop reading the client's socket; a body that is held up by us is not late."""
        if self._reading:
            self._reading = False
            self.rearm()
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read the client's socket again."""
        if not self._reading and not self._half_closed:
            self._reading = True
            if self._state is ANSWER:
                self.rearm()
            self.transport.resumeProducing()

    def register_producer(self, producer: Any, streaming: bool) -> None:
        """Let the client's socket drive the one who makes the answer."""
        self._producer = producer
        self.transport.registerProducer(self, streaming)

    def unregister_producer(self) -> None:
        """No more is to come of this answer."""
        self._producer = None
        self._slow = False
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """The client is slow: stop the source, and give the client C{send_timeout}."""
        self._slow = True
        self.progressed()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """The client has taken what there was."""
        if self._slow:
            self._slow = False
            self.rearm()
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone; L{connectionLost} follows and tells everybody."""

    def progressed(self) -> bool:
        """Wait C{send_timeout} for the client to take more; whether it has since the last look."""
        acked, self._acked = self._acked, bytes_acked(self.transport)
        self.deadline = self.site.sweep.after(self.site.limits.send_timeout)
        return acked != self._acked

    # -- the end

    def end(self, unread: bool) -> None:
        """
        Close after what is written has left. With something unread, or maybe on its way,
        linger: a reset would destroy the answer (RFC 9112 section 9.6).
        """
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if unread and not self._half_closed and half_close is not None:
            self._state = DRAIN
            self.deadline = self.site.sweep.after(1.0)
            half_close()
            self.resume_reading()
        else:
            self.shut()

    def drain(self, count: int) -> None:
        """So many bytes came which nobody reads; a client may send only so many."""
        self._drained += count
        if self._drained > HOLD:
            self.shut()

    def shut(self) -> None:
        """Close after what is written has left, whatever may come."""
        self._state = CLOSED
        self.progressed()
        self.transport.loseConnection()


def bytes_acked(transport: Any) -> int:
    """
    Bytes the client's kernel has acknowledged so far (C{tcpi_bytes_acked} of Linux's
    C{TCP_INFO}), or -1 where nobody knows.
    """
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        return int(struct.unpack_from("Q", info, 120)[0])
    except (AttributeError, OSError, ValueError, struct.error):
        return -1
