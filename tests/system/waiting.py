"""Waiting for what other processes do."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.system.tools import WAIT, Client, Daemon, request

ONE, TWO = "workers = 1", "workers = 2"


def until(holds: Callable[[], object], what: str = "") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline, what or "it never came"
        select.select([], [], [], 0.01)


def said(daemon: Daemon, text: str, times: int = 1) -> None:
    """Wait until the log says something."""
    until(lambda: daemon.log.read_text().count(text) >= times, f"the log never said {text!r}")


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def pids(daemon: Daemon) -> dict[int, int]:
    """Each worker's process, as the log told last."""
    found = re.findall(r"worker (\d+) serves, process (\d+)", daemon.log.read_text())
    return {int(number): int(pid) for number, pid in found}


def ready(daemon: Daemon, workers: int = 2) -> dict[int, int]:
    """The processes, as soon as there are so many."""
    until(lambda: len(pids(daemon)) == workers)
    return pids(daemon)


def server(folder: Path) -> int:
    """The process of the embedded store, by its own word."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT)
        sock.connect(str(folder / "gateway-store" / "socket"))
        sock.sendall(b"INFO server\r\n")
        told = b""
        while not (found := re.search(rb"process_id:(\d+)\r\n", told)):
            told += sock.recv(65536)
    return int(found[1])


def children(pid: int, command: str) -> set[int]:
    """A process's child processes whose command line has this in it."""
    found = set()
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if command.encode() in Path(f"/proc/{each}/cmdline").read_bytes():
                found.add(int(each))
    return found


def everywhere(port: int, path: str, tok: str = "") -> set[int]:
    """What connections to any of the workers answer."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(16)]
        for client in clients:
            client.send(request(path, tok=tok))
        return {client.answer().status for client in clients}
