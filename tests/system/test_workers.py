"""Several workers under a supervisor, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
from collections import Counter
from pathlib import Path

import pytest

from tests.system.load import Load
from tests.system.scripts import Silent
from tests.system.tools import (
    WAIT,
    Client,
    Upstream,
    free_port,
    gateway,
    request,
    token,
)
from tests.system.waiting import TWO, everywhere, gone, pids, ready, said, server, until


def test_connections_are_spread(tmp_path: Path, upstream: Upstream) -> None:
    """Of 64 connections each of two workers gets 35 to 65 per cent (median of 10 tries)."""
    shares = []
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        ready(daemon)
        for attempt in range(10):
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(daemon.connect()) for _ in range(64)]
                raw = request(f"/api/v1/users/{attempt}")
                for client in clients:
                    client.send(raw)
                assert [client.answer().status for client in clients] == [200] * 64
            rows = daemon.rows(64, f"path = '/api/v1/users/{attempt}'")
            spread = Counter(row["worker"] for row in rows)
            assert set(spread) <= {1, 2}
            shares.append(spread[1] / 64)
    assert 0.35 <= statistics.median(shares) <= 0.65, shares


def test_a_burst_is_spread_while_a_worker_is_stopped(tmp_path: Path, upstream: Upstream) -> None:
    """A worker that does not move does not keep the other from taking all who come."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        stopped = ready(daemon)[1]
        os.kill(stopped, signal.SIGSTOP)
        try:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(daemon.connect()) for _ in range(64)]
                for client in clients:
                    client.send(request("/api/v1/users/1"))
                assert [client.answer().status for client in clients] == [200] * 64
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert {row["worker"] for row in daemon.rows(64)} == {2}


def test_sigterm_drains_all(tmp_path: Path, upstream: Upstream) -> None:
    """SIGTERM under load: every request that was read is answered whole and has its row; status 0."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        ready(daemon)
        with Load(daemon.port) as load:
            load.more()
            assert daemon.stop() == 0
        rows = daemon.rows(load.count)
        assert load.cut(daemon) == []
        assert Counter(row["path"] for row in rows) == Counter(path for each in load.answered for path in each)
        assert {row["worker"] for row in rows} == {1, 2}
        assert load.statuses == {200}
        assert len(upstream.calls) == len(rows)


def test_connections_of_one_address(tmp_path: Path, upstream: Upstream) -> None:
    """Beyond max_connections_per_ip in all workers together a connection is closed; a dead worker's count no more."""
    with gateway(tmp_path, upstream, gateway=TWO + "\nmax_connections_per_ip = 8") as daemon, contextlib.ExitStack() as stack:
        first = ready(daemon)

        def connected() -> Client | None:
            """One more connection, if it is served."""
            client = stack.enter_context(daemon.connect())
            client.send(request("/api/v1/users/1"))
            with contextlib.suppress(EOFError):
                assert client.answer().status == 200
                return client
            return None

        def eight() -> bool:
            while len(clients) < 8 and (one := connected()):
                clients.append(one)
            return len(clients) == 8

        clients: list[Client] = []
        until(eight, "there was no room")
        assert [connected() for _ in range(8)] == [None] * 8
        assert {row["worker"] for row in daemon.rows(8)} == {1, 2}
        os.kill(first[1], signal.SIGKILL)
        until(lambda: pids(daemon)[1] != first[1])
        for client in clients[:]:
            client.send(request("/api/v1/users/1"))
            try:
                assert client.answer().status == 200
            except EOFError:
                clients.remove(client)
        assert 0 < len(clients) < 8
        until(eight, "there was no room")
        assert connected() is None


def test_a_second_sigterm_cuts(tmp_path: Path, upstream: Upstream) -> None:
    """A second SIGTERM cuts what is in flight in the workers; the exit status is 0."""
    silent = upstream.answer = Silent()
    with gateway(tmp_path, upstream, gateway=TWO) as daemon, daemon.connect() as client:
        ready(daemon)
        client.send(request("/api/v1/users/1"))
        assert silent.asked.wait(WAIT)
        daemon.process.send_signal(signal.SIGTERM)
        said(daemon, "SIGTERM: stopping", 3)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(WAIT) == 0
        assert daemon.rows(1)[0]["reason"] == "cut"


def test_logs_say_which_worker(tmp_path: Path, upstream: Upstream) -> None:
    """A worker's lines stand in the supervisor's log with the worker's number."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        ready(daemon)
        said(daemon, "[worker 1 gateway.")
        said(daemon, "[worker 2 gateway.")


def test_reload(tmp_path: Path, upstream: Upstream) -> None:
    """A reload reaches every worker; a bad file changes nothing; listeners come and go; so do workers."""
    port = free_port()
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        first = ready(daemon)
        good = daemon.ini.read_text()
        assert "2 problems; the old configuration stays" in daemon.reload(good + "\nnonsense = 1\n[foo]\n")
        assert daemon.get("/added").status == 404

        more = good.replace("listen = ", f"listen = tcp:{port}:interface=127.0.0.1\n ", 1)
        daemon.ini.write_text(f"{more}\n[route /added]\nupstream = http://127.0.0.1:{upstream.port}\n")
        daemon.process.send_signal(signal.SIGHUP)
        said(daemon, "reloaded: 2 routes", 3)
        assert everywhere(daemon.port, "/added") == {200}
        assert everywhere(port, "/added") == {200}
        assert pids(daemon) == first

        daemon.ini.write_text(good.replace(TWO, "workers = 3"))
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: len(pids(daemon)) == 3)
        assert everywhere(daemon.port, "/added") == {404}
        with pytest.raises(ConnectionRefusedError):
            Client(port)

        daemon.ini.write_text(good.replace(TWO, "workers = 1"))
        daemon.process.send_signal(signal.SIGHUP)
        workers = pids(daemon)
        for number in (2, 3):
            until(lambda number=number: gone(workers[number]))
        assert {daemon.get(f"/api/v1/users/last{n}").status for n in range(20)} == {200}
        rows = daemon.rows(20, "path LIKE '%last%'")
        assert {row["worker"] for row in rows} == {1}


def test_one_limit_for_all_workers(tmp_path: Path, upstream: Upstream) -> None:
    """64 concurrent clients of one user over two workers: exactly the limit passes, all others get 429."""
    # A time-out that a busy machine does not reach: this is about counting.
    options = "limit = 100\nwindow = 600s\nstore_timeout = 10s\non_store_failure = closed"
    with gateway(tmp_path, upstream, gateway=TWO, ratelimit=options) as daemon:
        ready(daemon)
        until(lambda: everywhere(daemon.port, "/api/v1/users/ready", token("first")) == {200}, "no store")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(daemon.connect()) for _ in range(64)]
            found: list[int] = []
            raw = request("/api/v1/users/1", tok=token("busy"))
            for _ in range(4):
                for client in clients:
                    client.send(raw)
                found += [client.answer().status for client in clients]
        assert Counter(found) == {200: 100, 429: 156}
        rows = daemon.rows(256, "path = '/api/v1/users/1'")
        assert {row["worker"] for row in rows} == {1, 2}


def test_the_store_dies(tmp_path: Path, upstream: Upstream) -> None:
    """The store of the workers is started again when it dies, and ends with the gateway."""
    options = "limit = 1000\nwindow = 600s\non_store_failure = closed"
    with gateway(tmp_path, upstream, gateway=TWO, ratelimit=options) as daemon:
        ready(daemon)
        until(lambda: everywhere(daemon.port, "/api/v1/users/1") == {200}, "no store")
        first = server(tmp_path)
        os.kill(first, signal.SIGKILL)
        said(daemon, "the embedded store has died")
        until(lambda: everywhere(daemon.port, "/api/v1/users/1") == {200}, "no store")
        last = server(tmp_path)
        assert last != first
    assert gone(last)


def test_memory_with_workers(tmp_path: Path, upstream: Upstream) -> None:
    """Counters in memory and several workers are an error of the file."""
    with (
        pytest.raises(RuntimeError, match="memory is one process's own"),
        gateway(tmp_path, upstream, gateway=TWO, ratelimit="store = memory"),
    ):
        pass


def test_a_port_in_use(tmp_path: Path, upstream: Upstream) -> None:
    """A port somebody else has is a sentence and exit status 1; no worker is started."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(RuntimeError, match=r"can't listen on tcp:\d+:interface=127.0.0.1: Address already in use"),
        gateway(tmp_path, upstream, gateway=TWO, listen=f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"),
    ):
        pass


def test_a_unix_socket(tmp_path: Path, upstream: Upstream) -> None:
    """Workers share a UNIX socket; its path goes with the gateway, and a stale one is no obstacle."""
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with gateway(tmp_path, upstream, gateway=TWO, listen=f"unix:{path}") as daemon:
        ready(daemon)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(request("/api/v1/users/1"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        os.kill(ready(daemon)[1], signal.SIGKILL)
        said(daemon, "worker 1 serves", 2)
        assert path.is_socket()
    assert not path.exists()


def test_affinity(tmp_path: Path, upstream: Upstream) -> None:
    """With cpu_affinity each worker has a processor of its own, in turn."""
    pool = sorted(os.sched_getaffinity(0))
    with gateway(tmp_path, upstream, gateway=TWO + "\ncpu_affinity = yes") as daemon:
        for number, pid in ready(daemon).items():
            assert os.sched_getaffinity(pid) == {pool[(number - 1) % len(pool)]}


def test_token_is_checked_in_every_worker(tmp_path: Path, upstream: Upstream) -> None:
    """The secret of the environment reaches every worker, and no other one is taken."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        ready(daemon)
        assert everywhere(daemon.port, "/api/v1/users/1") == {200}
        with daemon.connect() as client:
            client.send(request("/api/v1/users/1", tok=token(exp=1)))
            assert client.answer().status == 401
