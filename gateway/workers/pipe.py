# -*- test-case-name: tests.workers.test_pipe -*-
"""
The conversation of a supervisor and a worker: messages, and descriptors with them, over a
pair of UNIX sockets.

A message is four bytes of length and JSON. Lets no message grow, and no reader that has
stopped make the other side's memory grow.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

#: Bytes of one message, and of all that wait to be sent.
MOST, ROOM = 1 << 20, 4 << 20

#: Descriptors in one message: the kernel's own bound is 253.
FDS = 250

Message = dict[str, Any]


class Frames:
    """Makes messages of bytes and descriptors as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: Sequence[int]) -> Iterator[tuple[Message, list[int]]]:
        """
        The messages that are complete.

        @raise ValueError: when these are no messages.
        """
        self._buffer += data
        self._fds.extend(fds)
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MOST:
                raise ValueError("a message is too long")
            if len(self._buffer) < 4 + length:
                return
            message = json.loads(bytes(self._buffer[4 : 4 + length]))
            del self._buffer[: 4 + length]
            yield message, [self._fds.popleft() for _ in range(message.get("fds", 0))]

    def close(self) -> None:
        """Nobody will take the descriptors that are left."""
        while self._fds:
            os.close(self._fds.popleft())


def frame(message: Message, fds: Sequence[int] = ()) -> bytes:
    """A message's bytes."""
    if fds:
        message = {**message, "fds": len(fds)}
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


def receive(sock: socket.socket, frames: Frames) -> Iterator[tuple[Message, list[int]]]:
    """
    What has come.

    @raise EOFError: when the other side is gone.
    """
    try:
        data, fds, _, _ = socket.recv_fds(sock, 65536, FDS)
    except BlockingIOError:
        return
    except ConnectionError:
        raise EOFError from None
    for fd in fds:
        os.set_inheritable(fd, False)
    if not data:
        raise EOFError
    yield from frames.feed(data, fds)


@implementer(IReadWriteDescriptor)
class Pipe:
    """
    One end, on a reactor.

    @param received: told each message and its descriptors, which are then its own.
    @param lost: told once, when the other end is gone.
    """

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        received: Callable[[Message, list[int]], object],
        lost: Callable[[], object],
        frames: Frames | None = None,
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._socket = sock
        self._received = received
        self._lost = lost
        self._frames = frames or Frames()
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._size = 0
        self._closed = False
        reactor.addReader(self)

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """
        Send, or keep for later; whether there was room.

        @param fds: stay the caller's, who may close them at once.
        """
        data = frame(message, fds)
        if self._closed or self._size + len(data) > ROOM:
            return False
        self._waiting.append((data, [os.dup(fd) for fd in fds]))
        self._size += len(data)
        self.doWrite()
        return True

    def close(self) -> None:
        """End this side; nobody is told."""
        if self._closed:
            return
        self._closed = True
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()
        self._frames.close()
        self._socket.close()

    # -- the reactor's

    def fileno(self) -> int:
        """The socket's number."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "Pipe"

    def doRead(self) -> None:
        """Something has come, or the end."""
        if not self._closed:
            self._take(receive(self._socket, self._frames))

    def take_waiting(self) -> None:
        """Messages that came together with one that was read before this end was on a reactor."""
        self._take(self._frames.feed(b"", ()))

    def _take(self, messages: Iterator[tuple[Message, list[int]]]) -> None:
        try:
            for message, fds in messages:
                self._received(message, fds)
        except (EOFError, ValueError):
            self.connectionLost(None)

    def doWrite(self) -> None:
        """Send what waits."""
        try:
            while self._waiting:
                data, fds = self._waiting[0]
                sent = socket.send_fds(self._socket, [data], fds)
                self._size -= sent
                for fd in fds:
                    os.close(fd)
                if sent == len(data):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = (data[sent:], [])
        except BlockingIOError:
            self._reactor.addWriter(self)
        except OSError:
            # The end is told where it is read: what was sent before it is still there.
            self._size = ROOM
            self._reactor.removeWriter(self)
        else:
            self._reactor.removeWriter(self)

    def connectionLost(self, reason: object) -> None:
        """The other end is gone."""
        if not self._closed:
            self.close()
            self._lost()
