# -*- test-case-name: tests.system.test_workers -*-
"""
One worker as its supervisor sees it: a process, what it last said, and how it ended.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.logger import Logger

import gateway
from gateway.workers.pipe import Message, Pipe

#: Seconds between two looks at a process that has closed its end and is about to exit.
_LOOK = 0.01


class Worker:
    """
    A process, from its start to its end.

    @param ended: told once, when the process is gone and reaped.
    @ivar heard: when it last said anything, in the reactor's seconds.
    @ivar number: from 1, its successor has the same; 0: it has none yet.
    @ivar born: when it was given that, in the reactor's seconds.
    @ivar state: C{spare}, C{starting}, C{ready}, C{leaving} or C{gone}.
    @ivar requests, connections: as it last told.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        received: Callable[[Worker, Message], object],
        ended: Callable[[Worker, str], object],
    ) -> None:
        self._reactor = reactor
        self.number = 0
        self._received = received
        self._ended = ended
        self.state = "spare"
        self.heard = self.born = reactor.seconds()
        self.requests = self.connections = 0
        self.reason = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None
        self._output: _Output | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid if self._process is not None else 0

    def start(self, board: int, reactor_name: str, directory: str) -> None:
        """
        Start the process, which then waits for L{begin}.

        @raise OSError: when the system has no room for another process.
        """
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        environ = {
            name: value
            for name, value in os.environ.items()
            # The service manager is the supervisor's to talk to.
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        # The same program as here, wherever it was found; nothing that lies in the folder.
        found = [str(Path(gateway.__file__).parents[1]), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))
        command = [sys.executable, "-P", "-m", "gateway.workers.child"]
        command += [str(theirs.fileno()), str(board)]
        command += [reactor_name] if reactor_name else []
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, env=environ,
                cwd=directory, pass_fds=(theirs.fileno(), board), process_group=0,
            )  # fmt: skip
        except OSError:
            ours.close()
            os.close(read)
            raise
        finally:
            theirs.close()
            os.close(write)
        self._output = _Output(self._reactor, read, self._said)
        self._pipe = Pipe(self._reactor, ours, self._told, self._lost)

    def begin(self, number: int, message: Message, fds: Sequence[int]) -> None:
        """It has a number now, and something to serve."""
        self.number = number
        self.state = "starting"
        self.heard = self.born = self._reactor.seconds()
        self.send({**message, "number": number}, fds)

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Tell it something; whether there was room for it."""
        return self._pipe is not None and self._pipe.send(message, fds)

    def signal(self, number: int) -> None:
        """Send a signal; none to a process that is gone."""
        if self._process is not None and self.state != "gone":
            self._process.send_signal(number)

    def leave(self) -> None:
        """Finish what is in flight and end; a second time: cut it."""
        self.state = "leaving"
        self.signal(signal.SIGTERM)

    def _told(self, message: Message, fds: list[int]) -> None:
        self.heard = self._reactor.seconds()
        for fd in fds:
            os.close(fd)
        self._received(self, message)

    def _said(self, text: str) -> None:
        self._log.error("{text}", text=text, log_system=f"worker {self.number}")

    def _lost(self) -> None:
        """Its end of the pipe is closed, which only its end of life does."""
        if self.state != "leaving":
            self.signal(signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        process = self._process
        assert process is not None
        status = process.poll()
        if status is None:
            self._reactor.callLater(_LOOK, self._reap)
            return
        if self._output is not None:
            self._output.close()
        self.state = "gone"
        self._ended(self, self.reason or _how(status))


def _how(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class _Output:
    """What a worker prints: its last words when it can't even log."""

    def __init__(self, reactor: Any, descriptor: int, line: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._line = line
        self._rest = b""
        os.set_blocking(descriptor, False)
        reactor.addReader(self)

    def fileno(self) -> int:
        """The pipe's number."""
        return self._descriptor

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "Output"

    def doRead(self) -> None:
        """Some text, or its end."""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        if not data:
            self._reactor.removeReader(self)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "backslashreplace"))
        self._rest = self._rest[-65536:]

    def connectionLost(self, reason: object) -> None:
        """The reactor ends."""

    def close(self) -> None:
        """The process is gone: read what is left."""
        self.doRead()
        if self._rest:
            self._line(self._rest.decode("utf-8", "backslashreplace"))
        self._reactor.removeReader(self)
        os.close(self._descriptor)
