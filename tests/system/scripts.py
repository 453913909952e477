"""What an upstream does in more than one test."""

from __future__ import annotations

import contextlib
import threading
from queue import Queue

from tests.system.tools import WAIT, Call

OK, DONE = (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) for body in (b"ok", b"done"))


class Held:
    """
    Answers when it is told to.

    @param only: the end of the targets that wait; all others are answered at once.
    @ivar asked: set as soon as such a request has come.
    @ivar go: lets the answers out.
    """

    def __init__(self, raw: bytes = OK, only: bytes = b"") -> None:
        self._only = only
        self.asked = threading.Event()
        self.go = threading.Event()
        self._raw = raw

    def __call__(self, call: Call) -> bytes:
        if call.target.endswith(self._only):
            self.asked.set()
            self.go.wait(WAIT)
        return self._raw


class Silent:
    """
    Never answers, and waits for its connection's end.

    @ivar asked: set as soon as a request has come.
    @ivar freed: set when the connection has ended.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.freed = threading.Event()

    def __call__(self, call: Call) -> None:
        self.asked.set()
        with contextlib.suppress(ConnectionResetError):
            call.sock.settimeout(WAIT)
            assert call.sock.recv(1) == b""
        self.freed.set()


class Endless:
    """
    Begins an answer that never ends, and waits until it is let go.

    @ivar ended: who each was for (C{X-User-ID}), once its connection has ended.
    """

    def __init__(self) -> None:
        self.ended: Queue[list[str]] = Queue()

    def __call__(self, call: Call) -> None:
        call.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        with contextlib.suppress(OSError):
            call.sock.recv(1)
        self.ended.put(call.values("X-User-ID"))
