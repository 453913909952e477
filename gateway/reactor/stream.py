# -*- test-case-name: tests.reactor.test_twisted -*-
"""
Lets a connection's bytes through uvloop's own transport; keeps every promise of
Twisted's, whose own code decides when to pause, to flush, and to end.

A connection begins as Twisted's and is adopted by uvloop when it is first read. From
then on libuv reads and writes; C{startReading}, C{startWriting} and their opposites talk
to uvloop instead of the reactor's poll set, and what Twisted's C{FileDescriptor} does
after a flush (resume a producer, half-close, close) is done when uvloop's buffer is empty.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from gateway.cores import StreamCore

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection as Mixed
else:
    Mixed = object

DONE = Failure(main.CONNECTION_DONE)
LOST = Failure(main.CONNECTION_LOST)

#: Bytes above which a push producer is paused.
HIGH = 65536

#: Larger pieces leave at once.
LARGE = 16384

_log = Logger()


class Stream(StreamCore, Mixed):
    """
    The plain stream: mixed in before one of Twisted's connection classes.

    @ivar _uv: uvloop's transport, while there is one.
    @ivar _adopted: uvloop has, or is about to have, the socket.
    @ivar _fast: nothing but writing is to be done by L{write}.
    @ivar _tls: the protocol, if it is a TLS layer.
    @ivar _out: what was written in this turn.
    @ivar _full: uvloop holds more bytes than its limit.
    @ivar _reading: whether bytes are wanted.
    @ivar _writing: whether L{_emptied} is wanted.
    @ivar _tight: uvloop tells of each byte that is left, not only of 64 KiB.
    @ivar _held: what came while nobody wanted it: pieces, at last C{b""} for the end.
    """

    immediate = True
    _adoption: Any = None
    _tls: TLSMemoryBIOProtocol | None = None
    _adopted = False
    _full = False
    _reading = False
    _writing = False
    _scheduled = False
    _tight = False
    _eof = False
    _held: list[bytes] | None = None

    reactor: Any
    producer: Any

    # -- the protocol, whose method uvloop calls without a detour

    @property
    def protocol(self) -> Any:
        """Who gets the bytes; may be replaced at any time."""
        try:
            return self._protocol
        except AttributeError:
            raise AttributeError("protocol") from None

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        if protocol is not None:
            self.data_received = protocol.dataReceived
            # An endpoint wraps whatever it connects.
            layer = getattr(protocol, "_wrappedProtocol", protocol)
            self._tls = layer if isinstance(layer, TLSMemoryBIOProtocol) else None
            if self._uv is not None and self._held is None:
                self._uv.set_protocol(self)

    @protocol.deleter
    def protocol(self) -> None:
        del self._protocol
        self._tls = None
        self.data_received = None

    # -- adoption

    def _adopt(self) -> None:
        """
        Give the socket to uvloop, which tells of it in L{connection_made}, next turn.

        The coroutine does its work in one step, then waits for that; no task is needed.
        """
        self._adopted = True
        self.reactor._streams.add(self)
        loop = self.reactor._asyncioEventloop
        adoption = loop.connect_accepted_socket(lambda: self, self.socket)
        adoption.send(None)
        self._adoption = adoption

    def _finish_adoption(self) -> None:
        adoption, self._adoption = self._adoption, None
        with contextlib.suppress(StopIteration):
            adoption.send(None)

    # -- uvloop's side

    def connection_made(self, uv: Any) -> None:
        """The socket is uvloop's from now on."""
        self.reactor._asyncioEventloop.call_soon(self._finish_adoption)
        if self.disconnected:
            uv.abort()
            return
        self._uv = uv
        uv.set_protocol(self)
        pending = self._take_pending()
        if pending:
            self._pass(pending)
        if not self._reading:
            self._hold()
        self._choose()
        if self._writing:
            self._writing = False
            self.startWriting()

    def _take_pending(self) -> list[bytes]:
        """What has been written before uvloop was there."""
        rest = self.dataBuffer[self.offset :]
        pending = [rest, *self._tempDataBuffer] if rest else self._tempDataBuffer
        self.dataBuffer, self.offset = b"", 0
        self._tempDataBuffer, self._tempDataLen = [], 0
        return pending

    def eof_received(self) -> bool:
        """The peer has said its last word."""
        if self._held is not None:
            self._held.append(b"")
        elif not self.disconnected:
            self._eof = True
            self._reading = False
            self.readConnectionLost(DONE)
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """The socket is no longer uvloop's: an error, the protocol raised, or it was our wish."""
        if not self.disconnected and not self._aborting:
            if exc is None:
                self.connectionLost(DONE)
            elif isinstance(exc, OSError) and exc.__traceback__ is None:
                self._last_words()
                self.connectionLost(LOST)
            else:
                if isinstance(exc, OSError):  # the protocol's own; uvloop logs any other
                    _log.failure("a protocol failed", Failure(exc))
                self.connectionLost(Failure(exc))
        self._uv = None

    def _last_words(self) -> None:
        """
        What the peer said before writing to it failed is still heard, as it is on any
        reactor which reads before it writes.
        """
        self._fast = False
        self._out = b""
        try:
            while self._reading and not self.disconnected:
                data = self.socket.recv(65536)
                if not data:
                    return
                self.protocol.dataReceived(data)
        except OSError:
            return
        except Exception:
            _log.failure("a protocol failed")

    def pause_writing(self) -> None:
        """Too much is left to write."""
        self._full = True
        if self.producer is not None and self.streamingProducer:
            self.producerPaused = True
            self.producer.pauseProducing()

    def resume_writing(self) -> None:
        """What was left is written."""
        self._full = False
        if self._writing or self.producerPaused:
            self._writing = True
            self._emptied()

    # -- reading

    def startReading(self) -> None:
        """Bytes are wanted."""
        self._reading = True
        uv = self._uv
        if uv is not None:
            if self._held is not None:
                self.reactor._asyncioEventloop.call_soon(self._release)
            elif not self._eof:
                uv.resume_reading()
        elif not self._adopted:
            if self._ready():
                self._adopt()
            else:
                super().startReading()

    def stopReading(self) -> None:
        """No bytes are wanted."""
        self._reading = False
        if self._uv is not None:
            self._uv.pause_reading()
        elif not self._adopted:
            super().stopReading()

    def _ready(self) -> bool:
        """Whether uvloop may have the socket."""
        return True

    def _hold(self) -> None:
        """
        Keep what comes until uvloop can be told to stop: it is about to begin reading though
        nobody wants it yet.
        """
        self._held = []
        self.data_received = self._held.append
        self._uv.set_protocol(self)
        self.reactor._asyncioEventloop.call_soon(self._release)

    def _release(self) -> None:
        held = self._held
        if held is None or self.disconnected or self._uv is None:
            return
        if not self._reading:
            self._uv.pause_reading()
            if held:
                return
        self._held = None
        self.protocol = self.protocol
        try:
            while held and self._reading and not self.disconnected:
                data = held.pop(0)
                if data:
                    self.protocol.dataReceived(data)
                else:
                    self.eof_received()
        except Exception:
            _log.failure("a protocol failed")
            self.connectionLost(Failure())
        if not self.connected:
            return
        if held:
            self._held = held
            self.data_received = held.append
            self._uv.set_protocol(self)
        if self._reading:
            self._uv.resume_reading()

    # -- writing

    def _choose(self) -> None:
        """Whether L{write} may go the short way."""
        self._fast = bool(
            self._uv is not None
            and self.connected
            and not self.TLS
            and self._tls is None
            and not self.disconnecting
            and not self._writeDisconnecting
            and not self._aborting
            and (self.producer is None or self.streamingProducer)
        )

    def write(self, data: bytes) -> None:
        """Send, with what else is written in this turn; uvloop keeps what the socket refuses."""
        if self._fast:
            self._put(data)
            return
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if self._uv is None:
            if not self._aborting:
                FileDescriptor.write(self, data)
        elif self._open():
            self._pass([data])
            self._after_write()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """L{write} for several pieces."""
        if self._uv is None:
            if not self._aborting:
                FileDescriptor.writeSequence(self, iovec)
            return
        pieces = list(iovec)
        if self._fast:
            self._put(b"".join(pieces))
        elif self._open():
            self._pass(pieces)
            self._after_write()

    def _put(self, data: bytes) -> None:
        """
        Keep a small piece until the end of the turn, so that what many connections write in
        one turn leaves together: whoever reads the other ends is woken up once and not by each
        piece, which is a tenth of a proxied request's cost.
        """
        if len(data) > LARGE:
            self._send()
            self._uv.write(data)
        elif self._out:
            self._out += data
        elif data:
            outbox = self.reactor._outbox
            if not outbox:
                self.reactor._asyncioEventloop.call_soon(self.reactor._send_all)
            outbox.append(self)
            self._out = data

    def _send(self) -> None:
        """The turn is over, or something else is to be done: what was kept leaves."""
        out = self._out
        if out:
            self._out = b""
            if self._uv is not None:
                self._uv.write(out)

    def _slowly(self) -> None:
        """L{write} goes the long way from now on."""
        self._fast = False
        self._send()

    def _after_write(self) -> None:
        """Whoever waits for everything to be written waits for this, too."""
        pull = self.producer is not None and not self.streamingProducer
        if pull or self.disconnecting or self._writeDisconnecting or self._tempDataBuffer:
            self.startWriting()

    def _pass(self, pieces: list[bytes]) -> None:
        """Hand data to uvloop."""
        self._uv.writelines(pieces)

    def _flush_apart(self) -> bool:
        """Write what goes another way than uvloop's; whether there is any."""
        return False

    def _open(self) -> bool:
        if not self.connected or self._writeDisconnected or self._aborting:
            return False
        # A TLS layer's farewell would make a cut look like an end.
        return self._tls is None or not self._tls._aborted

    def startWriting(self) -> None:
        """L{_emptied} is to be called, soon, when nothing is left to write."""
        if self._uv is None:
            if self._adopted:
                self._writing = True
            else:
                super().startWriting()
            return
        self._writing = True
        if not self._tight:
            self._tight = True
            self._uv.set_write_buffer_limits(0, 0)
        if not self._full and not self._scheduled:
            self._scheduled = True
            self.reactor._asyncioEventloop.call_soon(self._soon)

    def stopWriting(self) -> None:
        """L{_emptied} is not wanted any more."""
        self._writing = False
        if not self._adopted:
            super().stopWriting()

    def _busy(self) -> bool:
        """Whether something is left to write."""
        return self._writing or (self._uv is not None and self._uv.get_write_buffer_size() > 0)

    def _soon(self) -> None:
        self._scheduled = False
        self._emptied()

    def _emptied(self) -> None:
        """Nothing is left to write: what C{FileDescriptor.doWrite} does then."""
        if not self._writing or self._full or self._aborting or not self.connected:
            return
        self._writing = False
        try:
            if self._flush_apart():
                return
            if self.producer is not None and (not self.streamingProducer or self.producerPaused):
                self.producerPaused = False
                self.producer.resumeProducing()
            elif self.disconnecting:
                self.connectionLost(DONE)
            elif self._writeDisconnecting and not self._writeDisconnected:
                self._writeDisconnected = True
                self._closeWriteConnection()
        except Exception:
            _log.failure("a producer or a protocol failed")
            self.connectionLost(Failure())

    # -- producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the socket drive a producer."""
        if not streaming:
            self._slowly()
        FileDescriptor.registerProducer(self, producer, streaming)
        self._choose()
        if not streaming and self.producer is not None:
            self.startWriting()
        if self._full and streaming and self.producer is not None:
            # Twisted's would pause it at its next write.
            self.reactor._asyncioEventloop.call_soon(self._pause_late, producer)

    def _pause_late(self, producer: Any) -> None:
        if self._full and self.producer is producer and not self.producerPaused:
            self.producerPaused = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """The producer has nothing more to say."""
        FileDescriptor.unregisterProducer(self)
        self.producerPaused = False
        self._choose()
        if self._fast and self._tight and self._uv is not None:
            self._tight = False
            self._uv.set_write_buffer_limits(HIGH, 0)

    # -- the end

    def loseConnection(self) -> None:
        """Close when what is written has left and no producer is registered."""
        self._slowly()
        FileDescriptor.loseConnection(self)

    def loseWriteConnection(self) -> None:
        """Close our half when what is written has left."""
        self._slowly()
        FileDescriptor.loseWriteConnection(self)

    def abortConnection(self) -> None:
        """Reset the connection; what the socket does not take now is dropped."""
        self._slowly()
        super().abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The end: the protocol is told, once."""
        self._fast = False
        self._out = b""
        self.reactor._streams.discard(self)
        super().connectionLost(reason)

    def _closeSocket(self, orderly: bool) -> None:
        if not self._adopted:
            super()._closeSocket(orderly)
            return
        try:
            if not orderly:
                linger = struct.pack("ii", 1, 0)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif self._shouldShutdown:
                self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self._uv is not None:
            self._uv.abort()
