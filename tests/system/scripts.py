"""What an upstream does in more than one test."""

from __future__ import annotations

import contextlib
import threading

from tests.system.tools import WAIT, Call

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Held:
    """
    Answers when it is told to.

    @ivar asked: set as soon as a request has come.
    @ivar go: lets the answers out.
    """

    def __init__(self, raw: bytes = OK) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()
        self._raw = raw

    def __call__(self, call: Call) -> bytes:
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
