# -*- test-case-name: tests.system.test_takeover -*-
"""
How a gateway hands over to the next one (C{SIGUSR2}): lets a new C{twistd} start with the
same command line and the listening sockets of this one, and leaves when that one serves.

If the new one does not come to that, nothing has happened: this one goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import Logger

from gateway.notify import notify
from gateway.sockets import INHERITED
from gateway.workers.pipe import Message, Pipe, frame

#: The variable with the number of the descriptor where a successor says that it serves.
_READY = "GATEWAY_READY"

#: Seconds a successor may take.
PATIENCE = 90.0


class Hands(Protocol):
    """What can be handed over."""

    def descriptors(self) -> list[tuple[str, int]]:
        """The listening sockets by description."""

    def hand_over(self) -> None:
        """Leave; another one serves."""


class TakeOver:
    """
    @param twistd: its options; of these, C{pidfile} belongs to whoever serves.
    @param directory: where the program was started.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, service: Hands, twistd: MutableMapping[str, Any], directory: str
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._twistd = twistd
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None
        self._timer: Any = None

    def arm(self) -> None:
        """Listen to the signal; called in the main thread."""
        signal.signal(signal.SIGUSR2, self._signalled)

    def _signalled(self, _number: int, _frame: object) -> None:
        self._reactor.callFromThread(self.begin)

    def begin(self) -> None:
        """Start a successor, unless there is one."""
        if self._pipe is not None:
            self._log.warn("SIGUSR2: a successor is starting already")
            return
        self._log.info("SIGUSR2: starting a successor")
        ours, theirs = socket.socketpair()
        sockets = self._service.descriptors()
        environ = {
            name: value
            for name, value in os.environ.items()
            if name not in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")
        }
        environ[INHERITED] = json.dumps(sockets)
        environ[_READY] = str(theirs.fileno())
        # It looks for another process's number there, and would refuse to start.
        self._remove_pidfile()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, *sys.orig_argv[1:]], env=environ, cwd=self._directory,
                pass_fds=[theirs.fileno(), *(number for _, number in sockets)],
            )  # fmt: skip
        except OSError as error:
            ours.close()
            self._failed(f"it can't be started: {error}")
            return
        finally:
            theirs.close()
        self._pipe = Pipe(self._reactor, ours, self._told, self._lost)
        self._timer = self._reactor.callLater(PATIENCE, self._late)

    def _told(self, message: Message, _fds: list[int]) -> None:
        """The successor serves."""
        assert self._pipe is not None
        self._pipe.close()
        self._timer.cancel()
        pid = message["pid"]
        self._log.info("process {pid} serves: finishing here", pid=pid)
        notify(f"MAINPID={pid}")
        # From now on it is the successor that talks to the service manager.
        os.environ.pop("NOTIFY_SOCKET", None)
        self._twistd["pidfile"] = ""
        self._service.hand_over()

    def _lost(self) -> None:
        self._timer.cancel()
        self._failed("it has ended; its reasons are above")

    def _late(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
        self._failed(f"it did not serve within {PATIENCE:.0f} s")

    def _failed(self, why: str) -> None:
        self._pipe = None
        process, self._process = self._process, None
        if process is not None:
            self._reap(process)
        if self._twistd.get("pidfile"):
            with contextlib.suppress(OSError):
                Path(self._twistd["pidfile"]).write_text(str(os.getpid()), "ascii")
        self._log.error("no successor: {why}; this process goes on", why=why)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            self._reactor.callLater(0.1, self._reap, process)

    def _remove_pidfile(self) -> None:
        if self._twistd.get("pidfile"):
            with contextlib.suppress(OSError):
                Path(self._twistd["pidfile"]).unlink()


def announcement(environ: MutableMapping[str, str]) -> Callable[[], object]:
    """What a successor calls when it serves; nothing, if this is no successor."""
    number = environ.pop(_READY, "")
    if not number:
        return lambda: None
    sock = socket.socket(fileno=int(number))
    os.set_inheritable(sock.fileno(), False)

    def serves() -> None:
        # The other side may have given up.
        with contextlib.suppress(OSError), sock:
            sock.sendall(frame({"kind": "ready", "pid": os.getpid()}))

    return serves
