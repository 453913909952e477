"""A gateway follows another on the same sockets, and no client notices."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.load import Load
from tests.system.scripts import DONE, Held
from tests.system.tools import (
    SECRET,
    TWISTD,
    WAIT,
    Client,
    Daemon,
    Upstream,
    configuration,
    free_port,
    request,
    token,
)
from tests.system.waiting import ONE, TWO, children, gone, said, server, until

ROOT = Path(__file__).parents[2]


class Line:
    """A daemon and its successors, the last of which serves."""

    def __init__(self, folder: Path, text: str, port: int, env: dict[str, str] | None = None) -> None:
        self.pidfile = folder / "gateway.pid"
        self.daemon = Daemon(folder, text, port, env, twistd=("-n", f"--pidfile={self.pidfile}"))
        self.pids = [self.daemon.process.pid]

    def take_over(self) -> None:
        """Have a successor follow, and wait until the one before is gone."""
        before = self.pids[-1]
        os.kill(before, signal.SIGUSR2)
        until(lambda: gone(before))
        assert self.daemon.process.wait(WAIT) == 0
        self.pids.append(int(self.pidfile.read_text()))
        assert self.pids[-1] not in self.pids[:-1]

    def stop(self) -> None:
        """End the last one."""
        os.kill(self.pids[-1], signal.SIGTERM)
        until(lambda: gone(self.pids[-1]))
        self.daemon.process.wait(WAIT)


@contextlib.contextmanager
def line(
    folder: Path, upstream: Upstream, gateway: str, env: dict[str, str] | None = None, ratelimit: str = ""
) -> Iterator[Line]:
    """A daemon that will have successors."""
    port = free_port()
    found = Line(folder, configuration(folder, upstream, port, gateway=gateway, ratelimit=ratelimit), port, env)
    try:
        yield found
    finally:
        found.stop()
    assert not found.pidfile.exists()


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_take_over_under_load(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """Three take-overs under load: nobody is refused, no request is cut, every answer has its row."""
    with line(tmp_path, upstream, workers) as gateways:
        with Load(gateways.daemon.port) as load:
            for _ in range(3):
                load.more()
                gateways.take_over()
            load.more()
        assert load.refused == 0
        assert load.statuses == {200}
        assert load.cut(gateways.daemon) == []
        assert load.open == []  # not even between two requests
        assert len(gateways.daemon.rows(load.count)) == load.count == len(upstream.calls)
        text = gateways.daemon.log.read_text()
        assert text.count("starting a successor") == 3
        assert "Traceback" not in text


def test_more_workers_by_take_over(tmp_path: Path, upstream: Upstream) -> None:
    """A successor reads the file anew: one process becomes a supervisor of two, and the other way round."""
    with line(tmp_path, upstream, ONE) as gateways:
        text = gateways.daemon.ini.read_text()
        for after, workers in ((TWO, {1, 2}), (ONE, {0})):
            gateways.daemon.ini.write_text(text.replace(ONE, after))
            gateways.take_over()
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(gateways.daemon.connect()) for _ in range(16)]
                for client in clients:
                    client.send(request(f"/api/v1/users/{after[-1]}"))
                assert [client.answer().status for client in clients] == [200] * 16
            rows = gateways.daemon.rows(16, f"path = '/api/v1/users/{after[-1]}'")
            assert {row["worker"] for row in rows} == workers


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_a_successor_that_fails(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """When the successor's file is bad, nothing has happened: the old process serves, its pid file is there."""
    with line(tmp_path, upstream, workers) as gateways:
        daemon = gateways.daemon
        good = daemon.ini.read_text()
        daemon.ini.write_text(good + "\nnonsense = 1\n")
        os.kill(gateways.pids[0], signal.SIGUSR2)
        said(daemon, "no successor")
        assert "nonsense: unknown option" in daemon.log.read_text()
        assert gateways.pidfile.read_text() == str(gateways.pids[0])
        assert daemon.get().status == 200
        daemon.ini.write_text(good)
        gateways.take_over()
        assert daemon.get().status == 200


EMBEDDED = "limit = 5\nwindow = 600s\nstore = embedded\nstore_timeout = 10s\non_store_failure = closed"


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_the_store_goes_on(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """Limits go on exactly across take-overs: the embedded store stays, is restarted when it dies, and ends with the last."""

    def counted(times: int) -> list[int]:
        return [gateways.daemon.get().status for _ in range(times)]

    with line(tmp_path, upstream, workers, ratelimit=EMBEDDED) as gateways:
        until(lambda: gateways.daemon.get(tok=token("first")).status == 200, "no store")
        first = server(tmp_path)
        assert counted(3) == [200] * 3
        gateways.take_over()
        assert counted(4) == [200, 200, 429, 429]
        said(gateways.daemon, "the embedded store runs on", 1)
        gateways.take_over()
        assert counted(2) == [429, 429]
        said(gateways.daemon, "the embedded store runs on", 2)
        assert server(tmp_path) == first
        os.kill(first, signal.SIGKILL)
        said(gateways.daemon, "the embedded store has died")
        until(lambda: gateways.daemon.get(tok=token("second")).status == 200, "no store")
        last = server(tmp_path)
        assert last != first
        assert "Traceback" not in gateways.daemon.log.read_text()
    until(lambda: gone(last))


def test_a_successor_that_fails_leaves_the_store_alone(tmp_path: Path, upstream: Upstream) -> None:
    """A successor that dies before it serves changes nothing in the store: the old one owns it, and restarts it."""
    with line(tmp_path, upstream, TWO, ratelimit=EMBEDDED) as gateways:
        daemon = gateways.daemon
        until(lambda: daemon.get(tok=token("first")).status == 200, "no store")
        first = server(tmp_path)
        assert [daemon.get().status for _ in range(5)] == [200] * 5
        os.kill(gateways.pids[0], signal.SIGUSR2)
        said(daemon, "another process runs the embedded store")
        (successor,) = children(gateways.pids[0], "--config")
        os.kill(successor, signal.SIGKILL)
        said(daemon, "no successor")
        assert (server(tmp_path), daemon.get().status) == (first, 429)
        os.kill(first, signal.SIGKILL)
        said(daemon, "the embedded store has died")
        until(lambda: daemon.get(tok=token("second")).status == 200, "no store")
        last = server(tmp_path)
    until(lambda: gone(last))


def test_what_is_in_flight_is_finished(tmp_path: Path, upstream: Upstream) -> None:
    """A request that takes long is answered by the old process, while the new one serves others."""
    held = upstream.answer = Held(DONE, only=b"/slow")
    with line(tmp_path, upstream, TWO) as gateways, gateways.daemon.connect() as client:
        client.send(request("/api/v1/users/slow"))
        assert held.asked.wait(WAIT)
        os.kill(gateways.pids[0], signal.SIGUSR2)
        said(gateways.daemon, "finishing here")
        assert gateways.daemon.get().status == 200
        assert not gone(gateways.pids[0])
        held.go.set()
        answer = client.answer()
        assert (answer.body, answer["Connection"]) == (b"done", "close")
        until(lambda: gone(gateways.pids[0]))
        gateways.pids.append(int(gateways.pidfile.read_text()))


def test_a_unix_socket_is_taken_over(tmp_path: Path, upstream: Upstream) -> None:
    """The path of a UNIX socket stays through a take-over and goes with the last process."""
    path = tmp_path / "gateway.sock"
    port = free_port()
    text = configuration(tmp_path, upstream, port).replace("listen = ", f"listen = unix:{path}\n    ", 1)
    gateways = Line(tmp_path, text, port)
    try:
        gateways.take_over()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(request("/api/v1/users/1"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        gateways.stop()
    assert not path.exists()


def test_a_daemon_in_the_background(tmp_path: Path, upstream: Upstream) -> None:
    """Without -n, too: the successor goes to the background itself and has the pid file."""
    port = free_port()
    pidfile = tmp_path / "gateway.pid"
    daemon = Daemon.__new__(Daemon)
    daemon.port, daemon.folder, daemon.ini, daemon.log = port, tmp_path, tmp_path / "g.ini", tmp_path / "log"
    daemon.ini.write_text(configuration(tmp_path, upstream, port, gateway=TWO))
    command = [*TWISTD, f"--pidfile={pidfile}", f"--logfile={daemon.log}", "gateway", "--config", "g.ini"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "JWT_SECRET": SECRET}, check=True, timeout=WAIT)
    said(daemon, "worker 2 serves")
    first = int(pidfile.read_text())
    try:
        os.kill(first, signal.SIGUSR2)
        until(lambda: gone(first))
        assert int(pidfile.read_text()) != first
        assert daemon.get().status == 200
    finally:
        last = int(pidfile.read_text())
        os.kill(last, signal.SIGTERM)
        until(lambda: gone(last))
    assert not pidfile.exists()


# -- the service manager


@contextlib.contextmanager
def activated(
    folder: Path, upstream: Upstream, gateway: str, sock: socket.socket, listener: str
) -> Iterator[Daemon]:
    """A daemon that is handed a listening socket, as by systemd."""
    port = sock.getsockname()[1]
    text = configuration(folder, upstream, 0, gateway=gateway)
    text = re.sub("listen = .*", f"listen = {listener}", text, count=1)
    with socket.socket() as other:
        numbers = (other.fileno(), sock.fileno())
        before = (sys.executable, str(ROOT / "tests/system/activate.py"), ",".join(map(str, numbers)), "other:web")
        daemon = Daemon(folder, text, port, before=before, pass_fds=numbers)
    try:
        yield daemon
    finally:
        assert daemon.stop() == 0, daemon.log.read_text()


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_a_socket_activated_restart_under_load(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """Restarted on a socket that the service manager holds, under load: nobody is refused, no request is cut."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock, Load(sock.getsockname()[1]) as load:
        for listener in ("systemd:domain=INET:index=1", "systemd:domain=INET:name=web", "systemd:domain=INET:index=1"):
            with activated(tmp_path, upstream, workers, sock, listener) as daemon:
                load.more()
        with activated(tmp_path, upstream, workers, sock, "systemd:domain=INET:name=web") as daemon:
            load.more()
            load.stop()
            assert load.refused == 0
            assert load.statuses == {200}
            assert load.cut(daemon) == []
            assert len(daemon.rows(load.count)) == load.count


def test_a_socket_that_was_not_handed_over(tmp_path: Path, upstream: Upstream) -> None:
    """A systemd listener without the service manager's socket is a sentence and exit status 1."""
    text = re.sub("listen = .*", "listen = systemd:domain=INET:index=0", configuration(tmp_path, upstream, 0), count=1)
    with pytest.raises(RuntimeError, match="the service manager has handed over 0 sockets"):
        Daemon(tmp_path, text, free_port())


@contextlib.contextmanager
def manager(folder: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A service manager's ear, and what it heard, with the sender's process."""
    heard: list[str] = []
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        ending = threading.Event()

        def listen() -> None:
            while not ending.is_set():
                heard.extend(sock.recv(4096).decode().splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}, heard
        finally:
            ending.set()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(path))
            thread.join(WAIT)


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_the_service_manager_is_told(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """READY, the watchdog, STATUS; at a take-over MAINPID, and STOPPING only at the very end."""
    with manager(tmp_path) as (env, heard):
        with line(tmp_path, upstream, workers, env) as gateways:
            until(lambda: "READY=1" in heard)
            until(lambda: heard.count("WATCHDOG=1") > 1)
            assert any(re.fullmatch(r"STATUS=[\d.]+ requests/s, \d+ connections", each) for each in heard)
            gateways.take_over()
            assert f"MAINPID={gateways.pids[-1]}" in heard
            assert "STOPPING=1" not in heard
            del heard[:]
            until(lambda: "WATCHDOG=1" in heard)
        until(lambda: "STOPPING=1" in heard)


def test_a_client_of_the_old_one_moves(tmp_path: Path, upstream: Upstream) -> None:
    """A connection to the old process is told to close with its next answer; a new one is the successor's."""
    with line(tmp_path, upstream, ONE) as gateways:
        with Client(gateways.daemon.port) as client:
            client.send(request("/api/v1/users/1"))
            assert client.answer().values("Connection") == []
            os.kill(gateways.pids[0], signal.SIGUSR2)
            said(gateways.daemon, "handed over: stopping")
            client.send(request("/api/v1/users/2"))
            assert client.answer()["Connection"] == "close"
        until(lambda: gone(gateways.pids[0]))
        gateways.pids.append(int(gateways.pidfile.read_text()))
        assert gateways.daemon.get().status == 200
