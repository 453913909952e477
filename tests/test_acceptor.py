"""Connections let in, by turns where several workers share a socket."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock

from gateway.acceptor import BATCH, EXHAUSTED, PATIENCE, YIELD, Acceptor
from gateway.sockets import Sockets


class Reactor(Clock):
    """Knows who wants to be told of connections, and takes them as any but a stock reactor does."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.adopted: list[socket.socket] = []

    def addReader(self, reader: Any) -> None:
        """Somebody wants to know."""
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        """No more."""
        self.readers.discard(reader)

    def adoptStreamConnection(self, fd: int, family: int, factory: Any) -> None:
        """A connection."""
        self.adopted.append(socket.fromfd(fd, family, socket.SOCK_STREAM))


class Turns:
    """A share of which the test decides."""

    def __init__(self) -> None:
        self.mine = True
        self.told = 0

    def my_turn(self) -> bool:
        """Whether the test lets it."""
        return self.mine

    def tell(self) -> None:
        """Others were told."""
        self.told += 1

    def leave(self) -> None:
        """Others need not wait."""


@contextlib.contextmanager
def accepting(share: Any = None) -> Iterator[tuple[Reactor, Acceptor, Any]]:
    """An acceptor and a way to connect to it."""
    reactor = Reactor()
    factory = ServerFactory()
    factory.noisy = False
    factory.protocol = Protocol
    sock = Sockets().open("tcp:0:interface=127.0.0.1")
    acceptor = Acceptor(reactor, sock, factory, share=share)
    acceptor.startListening()
    clients: list[socket.socket] = []

    def connect(count: int) -> None:
        clients.extend(socket.create_connection(sock.getsockname()) for _ in range(count))

    try:
        yield reactor, acceptor, connect
    finally:
        acceptor.stopListening()
        for each in [*clients, *reactor.adopted]:
            each.close()
    assert not reactor.readers
    assert not reactor.getDelayedCalls()


def test_a_burst_comes_in_by_batches() -> None:
    """Who waits is let in, a batch at a time, so that others get their turn on the reactor."""
    with accepting() as (reactor, acceptor, connect):
        connect(BATCH + 3)
        acceptor.doRead()
        assert len(reactor.adopted) == BATCH
        acceptor.doRead()
        assert len(reactor.adopted) == BATCH + 3


def test_paused() -> None:
    """While it is paused nobody is let in; afterwards those who have waited are."""
    with accepting() as (reactor, acceptor, connect):
        acceptor.stopReading()
        assert reactor.readers == set()
        connect(1)
        acceptor.doRead()
        assert reactor.adopted == []
        acceptor.startReading()
        assert reactor.readers == {acceptor}
        acceptor.doRead()
        assert len(reactor.adopted) == 1


def test_others_go_first() -> None:
    """A worker that is ahead rests a moment before each; if the others do nothing for long, it takes more and more."""
    turns = Turns()
    with accepting(turns) as (reactor, acceptor, connect):
        connect(30)
        turns.mine = False
        for taken in (*range(1, PATIENCE + 1), PATIENCE + 2, PATIENCE + 6, PATIENCE + 14, 30):
            acceptor.doRead()
            assert reactor.readers == set()
            reactor.advance(YIELD)
            assert len(reactor.adopted) == turns.told - 1 == taken  # and once at the start
            assert reactor.readers == {acceptor}
        turns.mine = True
        connect(2)
        acceptor.doRead()
        assert len(reactor.adopted) == 32
        turns.mine = False
        connect(2)
        acceptor.doRead()
        reactor.advance(YIELD)
        assert len(reactor.adopted) == 33  # it is patient again


def test_no_rest_after_the_end() -> None:
    """A worker that was resting when it stopped listening takes nobody in later."""
    turns = Turns()
    with accepting(turns) as (reactor, acceptor, connect):
        connect(1)
        turns.mine = False
        acceptor.doRead()
        acceptor.stopListening()
        assert not reactor.getDelayedCalls()
        assert reactor.adopted == []


class Full:
    """A listening socket whose process has no descriptor left, as often as told."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self._sock = sock
        self._times = times

    def accept(self) -> Any:
        """Fails, or does not."""
        self._times -= 1
        if self._times >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize("shared", [False, True])
def test_no_descriptors(shared: bool) -> None:
    """Without descriptors those who wait are let go at once; with other workers there they wait for these."""
    with accepting(Turns() if shared else None) as (reactor, acceptor, connect):
        connect(2)
        acceptor._socket = Full(acceptor._socket, 1)
        acceptor.doRead()
        assert reactor.adopted == []
        reactor.advance(EXHAUSTED)
        acceptor.doRead()
        assert len(reactor.adopted) == (2 if shared else 0)
        connect(1)
        acceptor.doRead()
        assert len(reactor.adopted) == (3 if shared else 1)


def test_one_who_has_left_again() -> None:
    """A connection that ended while it waited does not keep the next one out."""
    with accepting() as (reactor, acceptor, connect):
        connect(1)
        adopt = reactor.adoptStreamConnection

        def gone(*arguments: Any) -> None:
            reactor.adoptStreamConnection = adopt  # type: ignore[method-assign]
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        # On the class, where the acceptor looks whether the reactor is a stock one.
        reactor.adoptStreamConnection = gone  # type: ignore[method-assign]
        connect(1)
        acceptor.doRead()
        assert len(reactor.adopted) == 1
