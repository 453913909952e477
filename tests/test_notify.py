"""What the service manager hears, on real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from gateway.notify import STATUS_INTERVAL, Manager, notify, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A manager's socket, and the environment that names it."""
    name = f"@gateway-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name[0] == "@" else name)
        sock.setblocking(False)
        yield sock, {"NOTIFY_SOCKET": name}


def heard(sock: socket.socket) -> list[str]:
    """Every datagram so far."""
    found = []
    while True:
        try:
            found.append(sock.recv(4096).decode())
        except BlockingIOError:
            return found


def test_lines_arrive(manager: tuple[socket.socket, dict[str, str]]) -> None:
    """One datagram, one assignment a line; a line break in a value begins no other one."""
    sock, environ = manager
    assert notify("READY=1", "STATUS=a\nMAINPID=1\r\nb", environ=environ)
    assert heard(sock) == ["READY=1\nSTATUS=a MAINPID=1 b"]


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all", "@nobody-listens-here", "vsock:2:1", "/" + "x" * 300, "/\0"])
def test_nobody_listens(name: str) -> None:
    """Without a manager, or with one that is not there, nothing happens."""
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": name})
    assert not notify("READY=1", environ={})


def test_a_manager_that_does_not_read(manager: tuple[socket.socket, dict[str, str]]) -> None:
    """A manager's full queue holds nobody up."""
    sock, environ = manager
    assert not all(notify("STATUS=" + "x" * 1000, environ=environ) for _ in range(10_000))
    assert heard(sock)
    assert notify("READY=1", environ=environ)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [({}, 0), ({"WATCHDOG_USEC": "30000000"}, 15), ({"WATCHDOG_USEC": "soon"}, 0),
     ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 1), ({"WATCHDOG_USEC": "-5"}, 0),
     ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0), ({"WATCHDOG_USEC": "1"}, 0.01)],
)  # fmt: skip
def test_watchdog_interval(environ: dict[str, str], seconds: float) -> None:
    """Signs of life come at half the time the manager waits, and only when it asks this process."""
    assert watchdog_interval(environ) == seconds


def test_a_life(manager: tuple[socket.socket, dict[str, str]]) -> None:
    """Ready, status and signs of life as long as the reactor turns, reloads with their outcome, stopping."""
    sock, environ = manager
    clock, seen = Clock(), [0]
    told = Manager(clock, lambda: seen[0], lambda: 7, {**environ, "WATCHDOG_USEC": "4000000"})
    told.ready()
    assert heard(sock) == ["READY=1\nSTATUS=0.0 requests/s, 7 connections"]
    seen[0] = 1000
    clock.pump([1.0] * int(STATUS_INTERVAL))
    assert heard(sock) == ["WATCHDOG=1", "WATCHDOG=1", "STATUS=200.0 requests/s, 7 connections"]
    told.reloading()
    [said] = heard(sock)
    assert said.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert int(said.rpartition("=")[2]) > 0
    told.reloaded("reload refused: x.ini:3: [gateway] wrokers: unknown")
    tail = "200.0 requests/s, 7 connections; reload refused: x.ini:3: [gateway] wrokers: unknown"
    assert heard(sock) == [f"READY=1\nSTATUS={tail}"]
    clock.pump([1.0] * int(STATUS_INTERVAL))
    assert f"STATUS={tail.replace('200.0', '0.0')}" in heard(sock)
    told.stopping()
    assert heard(sock) == ["STOPPING=1\nSTATUS=finishing what is in flight"]
    told.reloaded("reload refused: the gateway is stopping")
    clock.pump([1.0] * 100)
    assert heard(sock) == []
    assert clock.getDelayedCalls() == []


def test_without_a_manager_no_timer_runs() -> None:
    """Who is not run by a service manager pays nothing for one."""
    clock = Clock()
    told = Manager(clock, lambda: 0, lambda: 0, {"WATCHDOG_USEC": "4000000"})
    told.ready()
    assert clock.getDelayedCalls() == []
    told.reloading()
    told.reloaded("")
    told.stopping()
