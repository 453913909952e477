"""Twisted's TCP and UNIX ports, connectors and connections, on L{Native} streams."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.python.failure import Failure

from gateway.reactor.native import Native

#: Seconds until a descriptor that did not fit into a full socket is tried again.
RETRY = 0.01


class _Dialled(Native):
    """A connection that is uvloop's once it is connected."""

    def _ready(self) -> bool:
        return bool(self.connected)


class TCPServer(Native, tcp.Server):
    """A TCP connection that was accepted."""


class TCPClient(_Dialled, tcp.Client):
    """A TCP connection that was asked for."""


class TCPPort(tcp.Port):
    """A listening TCP socket."""

    transport = TCPServer


class TCPConnector(tcp.Connector):
    """Makes L{TCPClient}s."""

    def _makeTransport(self) -> Any:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class _Descriptors(Native):
    """
    Sends open descriptors: a piece of data leaves with each, past uvloop, which cannot.

    Who receives them reads with Twisted's own C{recvmsg} and is never adopted.
    """

    _sendmsgQueue: list[int]

    def _ready(self) -> bool:
        return super()._ready() and not IFileDescriptorReceiver.providedBy(self.protocol)

    def sendFileDescriptor(self, fileno: int) -> None:
        """Send a descriptor with the data that follows."""
        if self._adopted:
            self._fast = False
        super().sendFileDescriptor(fileno)  # type: ignore[misc]

    def _choose(self) -> None:
        super()._choose()
        self._fast = self._fast and not self._sendmsgQueue and not self._tempDataBuffer

    def _pass(self, pieces: list[bytes]) -> None:
        if self._sendmsgQueue or self._tempDataBuffer:
            self._tempDataBuffer.extend(pieces)
        else:
            super()._pass(pieces)

    def _flush_apart(self) -> bool:
        if not self._sendmsgQueue and not self._tempDataBuffer:
            return False
        data, self._tempDataBuffer = b"".join(self._tempDataBuffer), []
        sent = self.writeSomeData(data)
        if isinstance(sent, Exception):
            self.connectionLost(Failure(sent))
            return True
        rest = data[sent:]
        if rest and self._sendmsgQueue:  # the socket is full
            self._tempDataBuffer.append(rest)
            self.reactor._asyncioEventloop.call_later(RETRY, self.startWriting)
            return True
        if rest:
            self._uv.write(rest)
        self._choose()
        self.startWriting()
        return True


class UNIXServer(_Descriptors, unix.Server):
    """A UNIX connection that was accepted."""


class UNIXClient(_Descriptors, _Dialled, unix.Client):
    """A UNIX connection that was asked for."""


class UNIXPort(unix.Port):
    """A listening UNIX socket."""

    transport = UNIXServer


class UNIXConnector(unix.Connector):
    """Makes L{UNIXClient}s."""

    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor, self.checkPID)
