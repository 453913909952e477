# -*- test-case-name: tests.test_notify -*-
"""
Tells the service manager how it is (sd_notify(3)): ready, reloading, stopping, a line of
status, and that the reactor still turns. Lets nothing of that disturb the service: where
nobody listens, nothing is said, and no error ever comes of it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.task import LoopingCall

#: Seconds between two lines of status.
STATUS_INTERVAL = 5.0


def notify(*lines: str, environ: Mapping[str, str] | None = None) -> bool:
    """
    Send lines such as C{READY=1} to C{$NOTIFY_SOCKET}; whether they have been sent.

    Never raises and never waits: a manager that does not read is not worth a request.
    """
    name = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if name[:1] not in ("/", "@"):
        return False
    address = "\0" + name[1:] if name[0] == "@" else name
    # A line break in a value would begin another assignment.
    text = "\n".join(" ".join(line.splitlines()) for line in lines)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode("utf-8", "replace"), address)
    except (OSError, ValueError):
        return False
    return True


def watchdog_interval(environ: Mapping[str, str]) -> float:
    """
    Seconds between two signs of life, half of what the manager waits for; 0: it does not
    ask this process for any (sd_watchdog_enabled(3)).
    """
    try:
        period = int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        whose = int(environ.get("WATCHDOG_PID", "0"))
    except ValueError:
        return 0.0
    return max(0.01, period / 2) if period > 0 and whose in (0, os.getpid()) else 0.0


class Manager:
    """
    The service manager, as the service sees it.

    @param clock: the reactor: signs of life come from it, so that a stuck one gives none.
    @param seen: how many requests there have been.
    @param connections: how many clients are connected.
    """

    def __init__(
        self,
        clock: Any,
        seen: Callable[[], int],
        connections: Callable[[], int],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._seen = seen
        self._connections = connections
        self._last = (0.0, 0)
        self._rate = 0.0
        self._note = ""
        self._stopping = False
        self._loops: list[LoopingCall] = []

    def ready(self) -> None:
        """Serving; begins to give signs of life and to tell the status."""
        self._last = (self._clock.seconds(), self._seen())
        self._tell("READY=1", f"STATUS={self._status()}")
        if not self._environ.get("NOTIFY_SOCKET"):
            return
        self._loop(STATUS_INTERVAL, self._tell_status)
        watchdog = watchdog_interval(self._environ)
        if watchdog:
            self._loop(watchdog, lambda: self._tell("WATCHDOG=1"))

    def reloading(self) -> None:
        """A new configuration is being read."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def reloaded(self, note: str) -> None:
        """That has ended; the note stands in the status until the next time."""
        self._note = note
        if not self._stopping:
            self._tell("READY=1", f"STATUS={self._status()}")

    def stopping(self) -> None:
        """No new requests are taken."""
        self._stopping = True
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops = []
        self._tell("STOPPING=1", "STATUS=finishing what is in flight")

    def _loop(self, interval: float, call: Callable[[], object]) -> None:
        loop = LoopingCall(call)
        loop.clock = self._clock
        loop.start(interval, now=False)
        self._loops.append(loop)

    def _tell_status(self) -> None:
        (then, before), now, seen = self._last, self._clock.seconds(), self._seen()
        self._rate = (seen - before) / max(now - then, 0.001)
        self._last = (now, seen)
        self._tell(f"STATUS={self._status()}")

    def _status(self) -> str:
        text = f"{self._rate:.1f} requests/s, {self._connections()} connections"
        return f"{text}; {self._note}" if self._note else text

    def _tell(self, *lines: str) -> None:
        notify(*lines, environ=self._environ)
