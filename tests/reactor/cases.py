"""What Twisted's own tests do not ask, and this reactor's way of reading and writing must keep."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.failure import Failure

#: Turns of the loop after which whatever is readable has been read.
TURNS = 20


class Told(Protocol):
    """Remembers what it is told."""

    def __init__(self, made: Callable[[Told], object] = lambda _: None) -> None:
        self.made = made
        self.got: list[bytes] = []
        self.ended: list[Failure] = []
        self.on_end: Callable[[], object] = lambda: None

    def connectionMade(self) -> None:
        self.made(self)

    def dataReceived(self, data: bytes) -> None:
        assert not self.ended
        self.got.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.append(reason)
        self.on_end()


class StreamCases(ReactorBuilder):
    """Streams on real sockets."""

    def later(self, reactor: Any, do: Callable[[], object], turns: int = TURNS) -> None:
        """Do something some turns of the loop later."""
        if turns:
            reactor.callLater(0, self.later, reactor, do, turns - 1)
        else:
            do()

    def listener(self) -> socket.socket:
        """A listening socket without a reactor."""
        sock = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(sock.close)
        return sock

    def connect(self, reactor: Any, sock: socket.socket, told: Told) -> None:
        """Connect a protocol to a listening socket."""
        factory = ClientFactory()
        factory.buildProtocol = lambda _: told  # type: ignore[method-assign]
        reactor.connectTCP("127.0.0.1", sock.getsockname()[1], factory)

    def test_paused_from_the_start(self) -> None:
        """A protocol that pauses in connectionMade gets nothing until it resumes, then all, in order."""
        reactor = self.buildReactor()
        told = Told(lambda made: made.transport.pauseProducing())
        factory = Factory()
        factory.buildProtocol = lambda _: told  # type: ignore[method-assign]
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.sendall(b"first ")
        seen: list[object] = []

        def look() -> None:
            seen.append(list(told.got))
            client.sendall(b"second")
            client.shutdown(socket.SHUT_WR)
            told.on_end = reactor.stop
            told.transport.resumeProducing()

        self.later(reactor, look)
        self.runReactor(reactor)
        assert seen == [[]]
        assert b"".join(told.got) == b"first second"
        assert len(told.ended) == 1

    def test_last_words(self) -> None:
        """What the peer said before it reset the connection is heard, though writing fails first."""
        reactor = self.buildReactor()
        sock = self.listener()

        def reset() -> None:
            peer, _ = sock.accept()
            peer.sendall(b"413")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            # Nothing is read meanwhile: the reset is the first thing the write meets.
            poll = select.poll()
            poll.register(told.transport.getHandle(), 0)
            while not poll.poll(1000)[0][1] & select.POLLHUP:
                pass
            told.transport.write(b"a body")
            told.transport.write(b"more of it")

        told = Told(lambda _: self.later(reactor, reset))
        told.on_end = reactor.stop
        self.connect(reactor, sock, told)
        self.runReactor(reactor)
        assert told.got == [b"413"]
        assert isinstance(told.ended[0].value, ConnectionLost)

    def test_write_kept_by_the_protocol(self) -> None:
        """A write method that a protocol has kept does nothing once the connection is lost."""
        reactor = self.buildReactor()
        sock = self.listener()
        kept: list[Any] = []

        def made(told: Told) -> None:
            kept.extend((told.transport.write, told.transport.writeSequence))
            told.transport.loseConnection()

        told = Told(made)
        told.on_end = lambda: self.later(reactor, reactor.stop)
        self.connect(reactor, sock, told)
        self.runReactor(reactor)
        kept[0](b"late")
        kept[1]([b"late"])
        peer, _ = sock.accept()
        with peer:
            assert peer.recv(100) == b""

    def test_port_at_rest(self) -> None:
        """A port that is paused lets clients wait; one that is told to accepts those that do."""
        reactor = self.buildReactor()
        made: list[Told] = []
        factory = Factory()
        factory.buildProtocol = lambda _: Told(made.append)  # type: ignore[method-assign]
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        port.stopReading()
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        seen: list[int] = []

        def look() -> None:
            seen.append(len(made))
            port.doRead()
            port.stopListening()
            self.later(reactor, answer)

        def answer() -> None:
            seen.append(len(made))
            made[0].transport.write(b"served")
            made[0].transport.loseConnection()
            made[0].on_end = reactor.stop

        self.later(reactor, look)
        self.runReactor(reactor)
        assert seen == [0, 1]
        assert client.recv(100) == b"served"

    def test_protocol_exchanged(self) -> None:
        """Who is set as the transport's protocol gets the bytes from then on."""
        reactor = self.buildReactor()
        sock = self.listener()
        second = Told()

        def exchange(first: Told) -> None:
            first.transport.protocol = second
            peer, _ = sock.accept()
            peer.sendall(b"for the second")
            peer.close()

        second.on_end = reactor.stop
        first = Told(exchange)
        self.connect(reactor, sock, first)
        self.runReactor(reactor)
        assert (first.got, second.got) == ([], [b"for the second"])
        assert (len(first.ended), len(second.ended)) == (0, 1)

    def test_own_oserror(self) -> None:
        """An OSError of a protocol's own is logged and ends its connection with it."""
        reactor = self.buildReactor()
        sock = self.listener()

        def fail(_data: bytes) -> None:
            raise FileNotFoundError("the protocol's own")

        told = Told(lambda _: sock.accept()[0].sendall(b"x"))
        told.dataReceived = fail  # type: ignore[method-assign]
        told.on_end = reactor.stop
        self.connect(reactor, sock, told)
        self.runReactor(reactor)
        assert isinstance(told.ended[0].value, FileNotFoundError)
        assert len(self.flushLoggedErrors(FileNotFoundError)) == 1


CASES = StreamCases
