# -*- test-case-name: tests.reactor.test_twisted -*-
"""
Lets a stream's bytes through as they are, or through Twisted's own TLS layer from the moment
somebody wants that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet._newtls import startTLS

from gateway.reactor.stream import LARGE, Stream


class Native(Stream):
    """A stream on which TLS may be started."""

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """Speak TLS from now on, through Twisted's own protocol wrapper."""
        self._slowly()
        startTLS(self, ctx, normal, Stream)

    def write(self, data: bytes) -> None:
        """See L{Stream.write}, one call shorter."""
        if self._fast:
            if self._out or len(data) > LARGE:
                self._put(data)
                return
            outbox = self.reactor._outbox
            if not outbox:
                self.reactor._asyncioEventloop.call_soon(self.reactor._send_all)
            outbox.append(self)
            self._out = data
        elif self.TLS:
            if self.connected:
                self.protocol.write(data)
        else:
            Stream.write(self, data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """L{write} for several pieces."""
        if self.TLS:
            if self.connected:
                self.protocol.writeSequence(iovec)
        else:
            Stream.writeSequence(self, iovec)

    def loseConnection(self) -> None:
        """Close when what is written has left and no producer is registered."""
        if self.TLS:
            if self.connected and not self.disconnecting:
                self.protocol.loseConnection()
        else:
            Stream.loseConnection(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the socket drive a producer."""
        if self.TLS:
            self.protocol.registerProducer(producer, streaming)
        else:
            Stream.registerProducer(self, producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has nothing more to say."""
        if self.TLS:
            self.protocol.unregisterProducer()
        else:
            Stream.unregisterProducer(self)
