"""Twisted's TCP and UNIX ports, connectors and connections, on L{Native} streams."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix

from gateway.reactor.stream import Native


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


class UNIXServer(Native, unix.Server):
    """A UNIX connection that was accepted."""


class UNIXClient(_Dialled, unix.Client):
    """A UNIX connection that was asked for."""


class UNIXPort(unix.Port):
    """A listening UNIX socket."""

    transport = UNIXServer


class UNIXConnector(unix.Connector):
    """Makes L{UNIXClient}s."""

    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor, self.checkPID)
