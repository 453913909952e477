"""More than there is room for: the surplus is told, the others go on, and room comes back."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from pathlib import Path

import pytest

from tests.system.tools import WAIT, Call, Client, Daemon, Upstream, gateway, request


def served(client: Client) -> int:
    """The status of a request without a token that is answered at once."""
    client.send(request("/health", tok=None))
    return client.answer().status


def highest(daemon: Daemon) -> int:
    """The daemon's highest file descriptor."""
    return max(int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd"))


def test_no_file_descriptors_left(tmp_path: Path, upstream: Upstream) -> None:
    """Out of descriptors the gateway serves whom it has, lets the surplus go, and takes new ones when there is room."""
    # Connections of its own, of which there is none yet.
    fresh = f"[route /fresh]\nupstream = http://127.0.0.1:{upstream.port}\nbreaker.failures = 1\nupstream.queue = 9"
    with gateway(tmp_path, upstream, routes=fresh) as daemon, daemon.connect() as client:
        client.send(request("/api/v1/users/1"))
        assert client.answer().status == 200
        room = 4
        most = highest(daemon) + 1 + room
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most, most))
        for _ in range(3):
            with contextlib.ExitStack() as crowd:
                others = [crowd.enter_context(daemon.connect()) for _ in range(40)]
                for _ in range(20):
                    client.send(request("/api/v1/users/1"))
                    assert client.answer().status == 200
                assert others[-1].rest() == b""
                client.send(request("/fresh/1"))
                assert client.answer().status == 503  # no room here, which is not the target's fault
                assert served(others[0]) == 200
            while True:  # the last of them may still be on its way out
                with contextlib.suppress(EOFError), daemon.connect() as late:
                    assert served(late) == 200
                    break
        assert {row["reason"] for row in daemon.rows(1, "status = 503")} == {"upstream_queue"}
        assert daemon.get("/fresh/1").status == 200
        assert "Traceback" not in daemon.log.read_text()


def test_too_few_descriptors_are_told(tmp_path: Path, upstream: Upstream) -> None:
    """A configuration that the limit of descriptors does not carry is warned about with the numbers, also at a reload."""
    with gateway(tmp_path, upstream, gateway="max_connections = 9000000") as daemon:
        said = daemon.logged("listening on")
        assert "max_connections = 9000000, 256 connections to upstreams and 64 others need 9000320" in said
        said = daemon.reload(daemon.ini.read_text().replace("= 9000000", "= 100"))
        assert "file descriptors" not in said
        said = daemon.reload(daemon.ini.read_text().replace("= 100\n", "= 8000000\n"))
        assert "need 8000320" in said


def test_connections_of_one_address(tmp_path: Path, upstream: Upstream) -> None:
    """Beyond max_connections_per_ip a client's connection is closed without a word; it gets one when another ends."""
    with gateway(tmp_path, upstream, gateway="max_connections_per_ip = 2") as daemon:
        with daemon.connect() as one, daemon.connect() as two, daemon.connect() as three:
            assert (served(one), served(two)) == (200, 200)
            assert three.rest() == b""
            assert served(one) == 200
        while True:
            with contextlib.suppress(EOFError), daemon.connect() as four:
                assert served(four) == 200
                break


def test_connections_beyond_the_bound_wait(tmp_path: Path, upstream: Upstream) -> None:
    """Beyond max_connections nobody is refused: who comes waits in the kernel's queue until one leaves."""
    with gateway(tmp_path, upstream, gateway="max_connections = 2") as daemon, daemon.connect() as one:
        with daemon.connect() as two:
            assert (served(one), served(two)) == (200, 200)
            waiting = daemon.connect()
            waiting.send(request("/health", tok=None))
            assert [served(one) for _ in range(20)] == [200] * 20
            waiting.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                waiting.answer()
        waiting.sock.settimeout(WAIT)
        assert waiting.answer().status == 200
        waiting.sock.close()


def test_requests_in_flight(tmp_path: Path, upstream: Upstream) -> None:
    """Beyond max_requests_in_flight: 503 with Retry-After on a connection that stays; then there is room again."""
    asked, go = threading.Semaphore(0), threading.Event()

    def slow(call: Call) -> bytes:
        asked.release()
        go.wait(WAIT)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"

    upstream.answer = slow
    with gateway(tmp_path, upstream, gateway="max_requests_in_flight = 2") as daemon, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(daemon.connect()) for _ in range(2)]
        for client in busy:
            client.send(request("/api/v1/users/1"))
            assert asked.acquire(timeout=WAIT)
        surplus = stack.enter_context(daemon.connect())
        surplus.send(request("/api/v1/users/2"))
        answer = surplus.answer()
        assert (answer.status, answer.error, answer["Retry-After"]) == (503, "Service unavailable", "1")
        assert answer["Access-Control-Allow-Origin"] == "*"
        daemon.reload()
        surplus.send(request("/api/v1/users/2"))
        assert surplus.answer().status == 503
        assert served(surplus) == 200
        go.set()
        assert [client.answer().status for client in busy] == [200, 200]
        surplus.send(request("/api/v1/users/2"))
        assert surplus.answer().status == 200
        assert [row["reason"] for row in daemon.rows(2, "status = 503")] == ["in_flight"] * 2
