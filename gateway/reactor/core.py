# -*- test-case-name: tests.reactor.test_twisted -*-
"""
Lets Twisted's interfaces meet uvloop: makes ports and connectors, and notices the end of
child processes, for which uvloop has no room beside its own.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import error, process
from twisted.internet._signals import SignalHandling, _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure

from gateway.cores import send_out
from gateway.reactor.parts import (
    TCPConnector,
    TCPPort,
    TCPServer,
    UNIXConnector,
    UNIXPort,
    UNIXServer,
)

_log = Logger()


class GatewayReactor(AsyncioSelectorReactor):
    """
    The reactor.

    @param loop: a uvloop loop; by default the one that is running, or a new one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        import uvloop  # noqa: PLC0415 -- there is none for some platforms

        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                loop = uvloop.new_event_loop()
                asyncio.set_event_loop(loop)
        if not isinstance(loop, uvloop.Loop):
            raise TypeError(f"the gateway reactor needs a uvloop loop, not {loop!r}")
        self._streams: set[Any] = set()
        self._outbox: list[Any] = []
        super().__init__(loop)
        loop.set_exception_handler(_failed)

    def _send_all(self) -> None:
        """The turn is over: what its streams have written leaves."""
        outbox, self._outbox = self._outbox, []
        send_out(outbox, _log.failure)

    def soon(self, call: Callable[[], object]) -> Any:
        """
        Call when what has come in this turn has been read, before anything is waited for; what
        is returned can be cancelled. C{callLater(0)} at an eighth of its cost.
        """
        return self._asyncioEventloop.call_soon(call)

    # -- IReactorFDSet: uvloop's streams are part of it

    def getReaders(self) -> list[Any]:
        """Everything that is read."""
        return [*super().getReaders(), *(each for each in self._streams if each._reading)]

    def getWriters(self) -> list[Any]:
        """Everything that has something to write."""
        return [*super().getWriters(), *(each for each in self._streams if each._busy())]

    def removeAll(self) -> list[Any]:
        """Watch nothing any more; what was watched."""
        streams = [each for each in self._streams if each._reading or each._busy()]
        self._streams.difference_update(streams)
        for each in streams:
            each.stopReading()
            each.stopWriting()
        return [*super().removeAll(), *streams]

    #: What an accepted socket of each family becomes, for those who accept by themselves.
    accepted: ClassVar[dict[int, Any]] = {
        socket.AF_INET: TCPServer,
        socket.AF_INET6: TCPServer,
        socket.AF_UNIX: UNIXServer,
    }

    # -- IReactorTCP

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a TCP port."""
        return _listening(TCPPort(port, factory, backlog, interface, self))

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> Any:
        """Connect to a TCP port."""
        return _connecting(TCPConnector(host, port, factory, timeout, bindAddress, self))

    # -- IReactorUNIX

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """Listen on a UNIX socket."""
        return _listening(UNIXPort(address, factory, backlog, mode, self, wantPID))

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> Any:
        """Connect to a UNIX socket."""
        return _connecting(UNIXConnector(address, factory, timeout, self, checkPID))

    # -- IReactorSocket

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Listen on a socket that is listening already."""
        if addressFamily not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return _listening(UNIXPort._fromListeningDescriptor(self, fileDescriptor, factory))
        return _listening(
            TCPPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        )

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Take over a socket that is connected already."""
        if addressFamily not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return UNIXServer._fromConnectedSocket(fileDescriptor, factory, self)
        return TCPServer._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    # -- signals

    def _signalsFactory(self) -> SignalHandling:
        usual = ReactorBase._signalsFactory(self)
        children = _Children(self._asyncioEventloop.call_soon_threadsafe)
        return _MultiSignalHandling((usual, children))


class _Children:
    """
    Notices that a child process has ended.

    Twisted's way is the wake-up descriptor of L{signal}, which uvloop needs for itself: it
    wakes up for every signal and lets Python's handlers run, so one of those is enough.
    """

    def __init__(self, soon: Callable[[Callable[[], object]], object]) -> None:
        self._soon = soon

    def install(self) -> None:
        """Listen to SIGCHLD, and look for children that have ended before."""
        signal.signal(signal.SIGCHLD, self._ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()

    def uninstall(self) -> None:
        """Listen no more."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _ended(self, _number: int, _frame: object) -> None:
        self._soon(process.reapAllProcesses)


def _failed(_loop: object, what: dict[str, Any]) -> None:
    """Something raised in uvloop's callbacks: a protocol, nearly always."""
    error = what.get("exception")
    if error is None:
        log.msg(what.get("message", "uvloop is not content"))
    else:
        log.err(Failure(error), what.get("message"))


def _listening(port: Any) -> Any:
    port.startListening()
    return port


def _connecting(connector: Any) -> Any:
    connector.connect()
    return connector


def install(eventloop: asyncio.AbstractEventLoop | None = None) -> None:
    """Make it the process's reactor."""
    from twisted.internet.main import installReactor  # noqa: PLC0415

    installReactor(GatewayReactor(eventloop))
