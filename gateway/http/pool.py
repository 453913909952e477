# -*- test-case-name: tests.http.test_pool -*-
"""
Lets a bounded number of connections to one target exist, and a bounded number of
requests wait for one; beyond that a request is told at once that there is no room.
"""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass
from typing import Protocol as Typing

from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from gateway.cores import PoolCore
from gateway.http.bounds import Bounds
from gateway.http.client import UpstreamConnection
from gateway.http.response_heads import ResponseHeads
from gateway.http.sweep import NEVER, Sweep

#: We have no descriptor or port left: that says nothing about the target.
_OUR_FAULT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL))


@dataclass(frozen=True, slots=True)
class PoolLimits(Bounds):
    """Bounds of one target: seconds and counts, as in the INI's [upstream]."""

    response_timeout: float = 60.0
    read_timeout: float = 60.0
    connections: int = 256
    queue: int = 1024
    queue_timeout: float = 5.0
    idle_connections: int = 64
    idle_timeout: float = 60.0


class Waiter(Typing):
    """Who waits for a connection."""

    def connected(self, connection: UpstreamConnection) -> None:
        """Here it is; ask now."""

    def unavailable(self, why: str) -> None:
        """There is none: C{queue} (no room here, or no turn in time), C{refused} or C{timeout}."""


class Pool(PoolCore):
    """
    Connections to one target.

    @param endpoint: makes new ones, with its own connect time-out.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        heads: ResponseHeads,
        sweep: Sweep,
        limits: PoolLimits,
    ) -> None:
        self._endpoint = endpoint
        self.heads = heads
        self.sweep = sweep
        self.limits = limits
        #: What is added to the sweep's time for the deadline of an answer's head, and of idleness.
        self.patience = sweep.interval + limits.response_timeout
        self._idleness = sweep.interval + limits.idle_timeout
        self.deadline = NEVER
        self._idle: list[UpstreamConnection] = []
        #: Idle connections that are kept; none any more when the pool is retired.
        self._room = limits.idle_connections
        self._open: set[UpstreamConnection] = set()
        self._connecting = 0
        self._waiters: deque[tuple[float, Waiter]] = deque()
        self._closed = False

    def take(self, idempotent: bool) -> UpstreamConnection | None:
        """
        The connection used last, if there is one that surely works: nothing has arrived on it,
        neither the upstream's farewell nor an answer nobody asked for. One system call, so that
        it is known before another request is sent, and not only when the reactor gets to it.

        A request that must not be sent twice takes none that was idle for a second or
        more: the upstream may be closing it at this moment.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not idempotent and self.sweep.now - connection.idle_since >= 1.0:
                idle.append(connection)
                return None
            poll = connection.poll
            try:
                if not (connection.lost or poll(0)):
                    return connection
            except OSError:
                pass
            connection.close()
        return None

    def wait(self, waiter: Waiter) -> None:
        """Get a fresh connection, or the next one that is free."""
        most = self.limits
        room = len(self._open) + self._connecting < most.connections
        if not room and self._idle:
            # Full of idle ones that may not be used for this request: make room.
            self._idle[0].close()
            room = True
        if not room and len(self._waiters) - self._connecting >= most.queue:
            waiter.unavailable("queue")
            return
        self._waiters.append((self.sweep.after(most.queue_timeout), waiter))
        if room:
            self._connect()
        else:
            self.deadline = min(self.deadline, self._waiters[0][0])
            self.sweep.watch(self)

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        self._waiters = deque(each for each in self._waiters if each[1] is not waiter)

    def release(self, connection: UpstreamConnection) -> None:
        """A connection is clean and free: for the next who waits, else for later."""
        connection.reused = True
        idle = self._idle
        if connection.lost or self._closed:
            connection.close()
        elif self._waiters:
            self._waiters.popleft()[1].connected(connection)
        elif not self._room:
            connection.close()
        else:
            connection.idle_since = now = self.sweep.now
            connection.deadline = now + self._idleness
            if len(idle) >= self._room:
                if idle[0].idle_since < now:
                    # The one that has been idle for longest: it may be too old for some requests,
                    # which would otherwise find none but such, and connect anew each time.
                    idle[0].close()
                else:
                    # All have been at work a moment ago, and may be again in a moment: one too
                    # many waits for that, but not longer. Else each burst would connect anew.
                    connection.deadline = now + self.sweep.interval
            idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """A connection has ended; called by itself, maybe twice."""
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            if len(self._waiters) > self._connecting and not self._closed:
                self._connect()

    def retire(self) -> None:
        """
        No new requests come: end idle connections and keep none. Requests at work or on
        their way here are served as ever, and the last one's end is the pool's.
        """
        self._room = 0
        for connection in list(self._idle):
            connection.close()

    def abort(self) -> None:
        """End all connections now."""
        self._closed = True
        self.sweep.forget(self)
        for connection in list(self._open):
            connection.close()

    def __len__(self) -> int:
        """Connections open or being opened."""
        return len(self._open) + self._connecting

    def expire(self) -> None:
        """Who has waited for too long waits no more (nobody whose connection is being made)."""
        now = self.sweep.now
        late = []
        while len(self._waiters) > self._connecting and self._waiters[0][0] <= now:
            late.append(self._waiters.popleft()[1])
        if len(self._waiters) > self._connecting:
            self.deadline = self._waiters[0][0]
        else:
            self.deadline = NEVER
            self.sweep.forget(self)
        for waiter in late:
            waiter.unavailable("queue")

    def _connect(self) -> None:
        self._connecting += 1
        factory = Factory.forProtocol(lambda: UpstreamConnection(self))
        factory.noisy = False
        self._endpoint.connect(factory).addCallbacks(self._connected, self._refused)

    def _connected(self, connection: UpstreamConnection) -> None:
        self._connecting -= 1
        self._open.add(connection)
        if connection.lost:
            self._open.discard(connection)
            self._give_up("refused")
        elif self._waiters:
            self._waiters.popleft()[1].connected(connection)
        else:
            self.release(connection)

    def _refused(self, failure: Failure) -> None:
        self._connecting -= 1
        if getattr(failure.value, "osError", None) in _OUR_FAULT:
            self._give_up("queue")
        else:
            self._give_up("timeout" if failure.check(ConnectTimeout) else "refused")

    def _give_up(self, why: str) -> None:
        """One attempt failed: one waiter is told, so that many waiters cost many attempts."""
        if self._waiters:
            self._waiters.popleft()[1].unavailable(why)
