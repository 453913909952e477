# -*- test-case-name: tests.http.test_wire -*-
"""
Writes at once instead of waiting for the reactor to say "writable"; lets the transport
do the rest when the socket does not take all.

Twisted's own transports put what is written aside until the next turn: an event and two
changes of the poll set more for each write. Measured over a whole request that is a third
of the cost. Only its plain TCP and UNIX transports are known well enough; any other one
(TLS, uvloop's, a test's) gets its own C{write}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def writer_of(transport: Any) -> Callable[[bytes], object]:
    """What to call instead of C{transport.write}."""
    if (
        not isinstance(transport, Connection)
        or getattr(transport, "TLS", False)
        or getattr(transport, "immediate", False)  # gateway.reactor's
    ):
        write: Callable[[bytes], object] = transport.write
        return write

    send = transport.socket.send

    def write_now(data: bytes) -> None:
        # What is buffered goes first; so does the transport's opinion of itself.
        if (
            transport._tempDataBuffer
            or transport.dataBuffer
            or transport.disconnecting
            or not transport.connected
        ):
            transport.write(data)
            return
        try:
            sent = send(data)
        except OSError:
            # The socket is full, or broken, which the reactor will find.
            sent = 0
        if sent != len(data):
            transport.write(data[sent:])

    return write_now
