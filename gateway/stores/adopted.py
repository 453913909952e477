# -*- test-case-name: tests.stores.test_embedded -*-
"""
The embedded store's server, where another process has started it: lets its new owner go on
with it, counters and all, know when it ends, and end it.

A connection is the life line: it ends when the server does, and while it is there the
process's number is nobody else's.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

#: Seconds for a server to say who it is; one that does not is of no use.
PATIENCE = 2.0

_PID = re.compile(rb"^process_id:(\d+)\r$", re.MULTILINE)


class Adopted(Protocol):
    """
    @param memory: bytes it may have from now on.
    @param ready: called when it has answered.
    @param ended: told why, once it has gone.
    @ivar since: when it was adopted, in the reactor's seconds.
    @ivar pid: its process; 0: not known yet.
    @ivar tail: its last words, which another process has heard.
    """

    transport: Any
    tail = ""

    def __init__(
        self,
        reactor: Any,
        memory: int,
        ready: Callable[[], object],
        ended: Callable[[Adopted, Failure], object],
    ) -> None:
        self._reactor = reactor
        self._memory = memory
        self._ready = ready
        self._ended = ended
        self._said = b""
        self._late: Any = None
        self.since: float = reactor.seconds()
        self.pid = 0

    def connectionMade(self) -> None:
        """Ask it who it is."""
        self.pid = _peer(self.transport)
        self._late = self._reactor.callLater(PATIENCE, self._silent)
        self.transport.write(b"CONFIG SET maxmemory %d\r\nINFO server\r\n" % self._memory)

    def dataReceived(self, data: bytes) -> None:
        """What it says of itself."""
        if not self._late.active():
            return
        self._said += data
        if found := _PID.search(self._said):
            self._late.cancel()
            self.pid = int(found[1])
            self._ready()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It has gone."""
        if self._late.active():
            self._late.cancel()
        self._ended(self, reason or Failure(ConnectionError()))

    def signal(self, name: str) -> None:
        """Send it a signal; one that nobody knows is let go."""
        if not self.pid:
            self.transport.abortConnection()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, getattr(signal, f"SIG{name}"))

    def _silent(self) -> None:
        self.signal("KILL")
        self.transport.abortConnection()


def _peer(transport: Any) -> int:
    """The process that listens at the other end, where the system tells (Linux)."""
    kind = getattr(socket, "SO_PEERCRED", None)
    if kind is None:
        return 0
    found = transport.getHandle().getsockopt(socket.SOL_SOCKET, kind, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[0])
