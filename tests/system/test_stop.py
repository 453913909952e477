"""SIGTERM: what is in flight is finished, nobody who was let in is lost, and each has a row."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import pytest

from tests.system.scripts import Held, Silent
from tests.system.tools import WAIT, Client, Daemon, Upstream, gateway, request
from tests.system.waiting import ONE, TWO, ready, said


def draining(daemon: Daemon) -> None:
    """SIGTERM, and wait until every process has closed its listener."""
    several = TWO in daemon.ini.read_text()
    if several:
        ready(daemon)
    daemon.process.send_signal(signal.SIGTERM)
    said(daemon, "Closed", 2 if several else 1)


def test_sigterm_finishes_what_is_in_flight(tmp_path: Path, upstream: Upstream) -> None:
    """SIGTERM closes the listener, answers what is in flight with Connection: close, exits 0."""
    held = upstream.answer = Held(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    with gateway(tmp_path, upstream) as daemon, daemon.connect() as client:
        client.send(request("/api/v1/users/1"))
        assert held.asked.wait(WAIT)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.logged("Closed")
        with pytest.raises(ConnectionRefusedError):
            Client(daemon.port)
        held.go.set()
        answer = client.answer()
        assert (answer.body, answer["Connection"]) == (b"done", "close")
        assert client.rest() == b""
        assert daemon.process.wait(WAIT) == 0
        assert daemon.rows(1)[0]["status"] == 200


def test_a_second_sigterm_cuts(tmp_path: Path, upstream: Upstream) -> None:
    """A second SIGTERM cuts what is still open; the exit status is 0 and the row says so."""
    silent = upstream.answer = Silent()
    with gateway(tmp_path, upstream) as daemon, daemon.connect() as client:
        client.send(request("/api/v1/users/1"))
        assert silent.asked.wait(WAIT)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.logged("Closed")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(WAIT) == 0
        assert daemon.rows(1)[0]["reason"] == "cut"


def test_the_grace_ends(tmp_path: Path, upstream: Upstream) -> None:
    """What outlives shutdown_grace is cut."""
    silent = upstream.answer = Silent()
    with gateway(tmp_path, upstream, gateway="shutdown_grace = 300ms") as daemon, daemon.connect() as client:
        client.send(request("/api/v1/users/1"))
        assert silent.asked.wait(WAIT)
        assert daemon.stop() == 0
        assert b"outlived the grace" in daemon.log.read_bytes()


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_silent_connections_have_the_whole_grace(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """After SIGTERM connections that were silent get their next request answered; with the last one the gateway ends."""
    with gateway(tmp_path, upstream, gateway=workers) as daemon:
        with daemon.connect() as idle, daemon.connect() as new:
            idle.send(request("/api/v1/users/1"))
            assert idle.answer().values("Connection") == []
            draining(daemon)
            for client in (idle, new):
                client.send(request("/api/v1/users/2"))
                answer = client.answer()
                assert (answer.status, answer["Connection"], client.rest()) == (200, "close", b"")
        assert daemon.process.wait(WAIT) == 0  # long before the grace of 30 s ends
        assert "outlived" not in daemon.log.read_text()


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_silent_connections_end_with_the_grace(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """A connection that stays silent is closed when the grace ends, in order and not by a reset."""
    with gateway(tmp_path, upstream, gateway=f"{workers}\nshutdown_grace = 1s") as daemon, daemon.connect() as idle:
        idle.send(request("/api/v1/users/1"))
        assert idle.answer().status == 200
        daemon.process.send_signal(signal.SIGTERM)
        assert idle.sock.recv(1) == b""
        assert daemon.process.wait(WAIT) == 0
        assert "1 connections were silent to the grace's end" in daemon.log.read_text()
        assert "outlived" not in daemon.log.read_text()


@pytest.mark.parametrize("workers", [ONE, TWO])
def test_a_second_sigterm_closes_silent_connections(tmp_path: Path, upstream: Upstream, workers: str) -> None:
    """A second SIGTERM waits for nobody, silent connections neither."""
    with gateway(tmp_path, upstream, gateway=workers) as daemon, daemon.connect() as idle:
        idle.send(request("/api/v1/users/1"))
        assert idle.answer().status == 200
        draining(daemon)
        daemon.process.send_signal(signal.SIGTERM)
        assert idle.rest() == b""
        assert daemon.process.wait(WAIT) == 0


def test_sigterm_under_load_loses_nothing(tmp_path: Path, upstream: Upstream) -> None:
    """SIGTERM under load: every request that was let in is answered whole and has its row."""
    answered: list[str] = []
    started = threading.Event()
    raw = request("/api/v1/users/1")

    def load(port: int) -> None:
        with contextlib.suppress(ConnectionRefusedError), Client(port) as client:
            while True:
                try:
                    client.sock.sendall(raw)
                    answer = client.answer()
                except (OSError, EOFError):
                    assert client.buffer == b""  # between two answers, never inside one
                    return
                assert answer.whole
                answered.append(answer["X-Request-ID"])
                if len(answered) > 200:
                    started.set()
                if answer.values("Connection") == ["close"]:
                    assert client.rest() == b""
                    return

    with gateway(tmp_path, upstream) as daemon:
        threads = [threading.Thread(target=load, args=(daemon.port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert started.wait(WAIT)
        assert daemon.stop() == 0
        for thread in threads:
            thread.join(WAIT)
        rows = [row["request_id"] for row in daemon.rows(len(answered))]
    assert sorted(rows) == sorted(answered)
    assert len(rows) == len(upstream.calls)


def test_sigterm_serves_who_waits_to_be_accepted(tmp_path: Path, upstream: Upstream) -> None:
    """A client whom the kernel has let in before SIGTERM came is served as any other."""
    with gateway(tmp_path, upstream) as daemon:
        for _ in range(3):
            daemon.get()  # one at a time: the reactor learns to accept few at once
        daemon.process.send_signal(signal.SIGSTOP)
        clients = [daemon.connect() for _ in range(100)]
        for client in clients:
            client.send(request("/api/v1/users/waiting"))
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGCONT)
        answers = [client.answer() for client in clients]
        for client in clients:
            client.sock.close()
        assert daemon.process.wait(WAIT) == 0
        rows = daemon.rows(100, "path = '/api/v1/users/waiting'")
    assert {(answer.status, answer["Connection"]) for answer in answers} == {(200, "close")}
    assert sorted(row["request_id"] for row in rows) == sorted(answer["X-Request-ID"] for answer in answers)
