# -*- test-case-name: tests.test_acceptor -*-
"""
Lets connections in from a listening socket that this process alone has, or shares with
other workers: then one that has more connections than its fellows lets them go first.

Works on every reactor with C{addReader} and C{adoptStreamConnection}.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from zope.interface import implementer

from gateway.workers.share import Share

#: Connections let in before others get their turn on the reactor.
BATCH = 32

#: Seconds for which a worker lets its fellows go first, and waits when it has no descriptors.
YIELD, EXHAUSTED = 0.001, 0.25

#: So many times the others are taken to be busy, or waiting for a processor; then to be stuck.
PATIENCE = 16

_GONE = {
    errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR, errno.ENETDOWN, errno.ENOTCONN,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EOPNOTSUPP, errno.ECONNRESET,
}  # fmt: skip


@implementer(IListeningPort, IReadDescriptor)
class Acceptor:
    """
    A listening port over a socket that exists already.

    @param sock: listening, not blocking; closed by C{close} at the end.
    @param close: ends the socket.
    @param share: what the workers know of each other, or C{None}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        factory: Any,
        close: Callable[[socket.socket], object] = socket.socket.close,
        share: Share | None = None,
    ) -> None:
        self._reactor = reactor
        self._socket = sock
        self._factory = factory
        self._close = close
        self._share = share
        self._servers = _servers(reactor)
        self._waits = 0
        self._session = 0
        self._told = False
        self._reserve: int | None = None
        self._wanted = self._closed = False
        self._resting: Any = None

    # -- IListeningPort

    def startListening(self) -> None:
        """Let connections in from now on."""
        self._factory.doStart()
        self._take_reserve()
        if self._share is not None:
            self._share.tell()
        self.startReading()

    def stopListening(self) -> None:
        """Let nobody in any more."""
        if self._closed:
            return
        self.stopReading()
        self._closed = True
        host = self.getHost()
        self._close(self._socket)
        self._factory.doStop()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
        self._log.info("({host} Closed)", host=host)
        if self._share is not None:
            self._share.leave()

    def getHost(self) -> IPv4Address | IPv6Address | UNIXAddress:
        """Where it listens."""
        name = self._socket.getsockname()
        if self._socket.family == socket.AF_UNIX:
            return UNIXAddress(name)
        return _named(self._socket.family, name)

    # -- IReadDescriptor

    def startReading(self) -> None:
        """Accept again."""
        self._wanted = True
        if self._resting is None and not self._closed:
            self._reactor.addReader(self)

    def stopReading(self) -> None:
        """Accept nobody for now; they wait in the kernel's queue."""
        self._wanted = False
        self._reactor.removeReader(self)
        resting, self._resting = self._resting, None
        if resting is not None:
            resting.cancel()

    def fileno(self) -> int:
        """The socket's number."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "Acceptor"

    def connectionLost(self, reason: object) -> None:
        """The reactor gives up on the socket, or ends."""
        self.stopListening()

    def doRead(self) -> None:
        """Somebody waits in the queue."""
        share = self._share
        for _ in range(BATCH):
            if share is not None and not share.my_turn():
                self._rest(YIELD)
                return
            self._waits = 0
            if not self._wanted or not self.accept():
                return

    def accept(self) -> bool:
        """Let one in, whoever's turn it is; whether there may be another."""
        if self._closed:
            return False
        try:
            sock, address = self._socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno in _GONE or self._exhausted(error)
        sock.setblocking(False)
        try:
            self._adopt(sock, address)
        except OSError as error:
            sock.close()
            return error.errno in _GONE or self._exhausted(error)
        if self._share is not None:
            self._share.tell()
        return True

    def _adopt(self, sock: socket.socket, address: Any) -> None:
        """A connection of the reactor's own kind."""
        server = self._servers.get(sock.family)
        if server is None:
            with sock:
                self._reactor.adoptStreamConnection(sock.fileno(), sock.family, self._factory)
            return
        # That way would double the descriptor and ask for both names again.
        peer: Any
        if sock.family == socket.AF_UNIX:
            peer = UNIXAddress(address or None)
        else:
            peer = _named(sock.family, address)
        protocol = self._factory.buildProtocol(peer)
        if protocol is None:
            sock.close()
            return
        self._session += 1
        transport = server(sock, protocol, address, None, self._session, self._reactor)
        protocol.makeConnection(transport)

    def _exhausted(self, error: OSError) -> bool:
        """
        No descriptor or no memory is left. Who waits is another worker's guest if there are
        several; else they are told at once, by the end of their connections.
        """
        if not self._told:
            self._told = True
            self._log.warn("can't accept: {reason} ({code})", reason=error.strerror,
                           code=errno.errorcode.get(error.errno or 0, "?"))  # fmt: skip
        if self._share is None and self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            with contextlib.suppress(OSError):
                for _ in range(BATCH):
                    self._socket.accept()[0].close()
            self._take_reserve()
        self._rest(EXHAUSTED if self._share is not None else YIELD)
        return False

    def _take_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)

    def _rest(self, seconds: float) -> None:
        if self._resting is None and self._wanted:
            self._reactor.removeReader(self)
            self._resting = self._reactor.callLater(seconds, self._rested)

    def _rested(self) -> None:
        """
        The others have had their time. If they did not use it, one is let in; if they do not
        for long, they are stuck, and more and more are.
        """
        self._resting = None
        if not self._wanted:
            return
        self._waits += 1
        for _ in range(min(BATCH, 1 << max(0, self._waits - PATIENCE))):
            if not self._wanted or not self.accept():
                break
        if self._resting is None and self._wanted:
            self._reactor.addReader(self)


def _named(family: int, address: Any) -> IPv4Address | IPv6Address:
    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
    return kind("TCP", *address)


def _servers(reactor: Any) -> dict[int, Any]:
    """The kinds of connections a reactor makes of accepted sockets, where that is known."""
    accepted: dict[int, Any] = getattr(reactor, "accepted", {})
    stock = PosixReactorBase.adoptStreamConnection
    if not accepted and type(reactor).adoptStreamConnection is stock:
        return {
            socket.AF_INET: tcp.Server,
            socket.AF_INET6: tcp.Server,
            socket.AF_UNIX: unix.Server,
        }
    return accepted
