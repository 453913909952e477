"""The pool's bounds and the [upstream] time-outs, on real sockets."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.system.scripts import Held
from tests.system.tools import WAIT, Call, Upstream, gateway, request, token


def test_bounded_connections_and_queue(tmp_path: Path, upstream: Upstream) -> None:
    """One connection, one place in the queue: the second request waits, the third is 503 at once."""
    held = upstream.answer = Held()
    rest = "[upstream]\nconnections = 1\nqueue = 1\nqueue_timeout = 10s"
    with gateway(tmp_path, upstream, rest=rest) as daemon, daemon.connect() as first, daemon.connect() as second:
        first.send(request("/api/v1/users/1"))
        assert held.asked.wait(WAIT)
        second.send(request("/api/v1/users/2"))
        for _ in range(200):  # until the second stands in the queue
            third = daemon.get("/api/v1/users/3") if len(upstream.calls) == 1 else None
            if third is not None and third.status == 503:
                break
        assert third is not None
        assert (third.status, third.error) == (503, "Service unavailable")
        assert third.values("Retry-After") == ["1"]
        held.go.set()
        assert first.answer().status == second.answer().status == 200
        assert "upstream_queue" in [row["reason"] for row in daemon.rows(3)]


def test_queue_timeout(tmp_path: Path, upstream: Upstream) -> None:
    """Who has waited queue_timeout for a connection is told 503; it counts neither way for the circuit."""
    held = upstream.answer = Held()
    rest = "[upstream]\nconnections = 1\nqueue_timeout = 200ms\n[breaker]\nfailures = 1"
    with gateway(tmp_path, upstream, rest=rest) as daemon, daemon.connect() as first:
        first.send(request("/api/v1/users/1"))
        assert held.asked.wait(WAIT)
        assert [daemon.get().status for _ in range(3)] == [503] * 3
        assert {row["reason"] for row in daemon.rows(3)} == {"upstream_queue"}
        held.go.set()
        assert first.answer().status == 200


def test_read_timeout(tmp_path: Path, upstream: Upstream) -> None:
    """An answer that stops in the middle for read_timeout is cut, and on record as such."""
    def stop(call: Call) -> None:
        with contextlib.suppress(OSError):
            call.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            call.sock.recv(1)

    upstream.answer = stop
    with gateway(tmp_path, upstream, rest="[upstream]\nread_timeout = 200ms") as daemon:
        answer = daemon.get()
        assert (answer.status, answer.whole) == (200, False)
        assert daemon.rows(1)[0]["reason"] == "upstream_timeout"


def test_an_upload_that_is_not_taken(tmp_path: Path, upstream: Upstream) -> None:
    """An upstream that stops taking a body for response_timeout is 504."""
    held = threading.Event()

    def never_read() -> None:
        sock, _ = listener.accept()
        held.wait(WAIT)
        sock.close()

    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    thread = threading.Thread(target=never_read)
    thread.start()
    routes = f"[route /stuck]\nupstream = http://127.0.0.1:{listener.getsockname()[1]}\nupstream.response_timeout = 300ms\nbody.max_size = 1GiB"
    with gateway(tmp_path, upstream, routes=routes) as daemon, daemon.connect() as client:
        def send() -> None:
            with contextlib.suppress(OSError):  # the gateway stops reading, and cuts
                client.send(request("/stuck/x", "Content-Length: 100000000", method="PUT") + b"x" * 30_000_000)

        sender = threading.Thread(target=send)
        sender.start()
        assert client.answer().status == 504
        client.sock.close()
        sender.join(WAIT)
        held.set()
        thread.join(WAIT)
    listener.close()


def test_keep_alive_upstream(shared: object, upstream: Upstream) -> None:
    """Requests one after the other share a connection to the upstream."""
    sockets = set()
    upstream.answer = lambda call: (sockets.add(id(call.sock)), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")[1]
    for _ in range(10):
        assert shared.get().status == 200  # type: ignore[attr-defined]
    assert len(sockets) <= 2


def test_root_route_and_other_keys(tmp_path: Path, upstream: Upstream) -> None:
    """A route for everything works beside /health; counters may be kept by claim, or by address."""
    routes = (
        f"[route /]\nupstream = http://127.0.0.1:{upstream.port}\n"
        f"[route /team]\nupstream = http://127.0.0.1:{upstream.port}\nratelimit.key = team\nratelimit.limit = 1\n"
        f"[route /addr]\nupstream = http://127.0.0.1:{upstream.port}\nratelimit.key = ip\nratelimit.limit = 1\n"
    )
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        assert daemon.get("/what/ever").status == 200
        assert upstream.calls[-1].target == b"/what/ever"
        assert daemon.get("/health", tok=None).status == 200
        red, blue = token("a", team="red"), token("b", team="blue")
        assert [daemon.get("/team/x", tok=each).status for each in (red, blue, token("c", team="red"))] == [200, 200, 429]
        answer = daemon.get("/team/x", tok=token("d"))
        assert (answer.status, answer.error) == (401, "Token validation failed")
        assert [daemon.get("/addr/x", tok=each).status for each in (red, blue)] == [200, 429]


@pytest.mark.parametrize("algorithm", ["fixed-window", "gcra"])
def test_other_algorithms(tmp_path: Path, upstream: Upstream, algorithm: str) -> None:
    """The other two algorithms limit as well."""
    routes = f"[route /x]\nupstream = http://127.0.0.1:{upstream.port}\nratelimit.algorithm = {algorithm}\nratelimit.limit = 2\nratelimit.burst = 2\nratelimit.window = 1h"
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        assert [daemon.get("/x").status for _ in range(3)] == [200, 200, 429]


def test_the_unit_file_is_hardened() -> None:
    """Systemd's own verdict on the unit file is OK or better."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = Path(__file__).parents[2] / "systemd" / "gateway.service"
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", str(unit)], capture_output=True, text=True)
    if "Overall exposure level" not in done.stdout:
        pytest.skip("this systemd-analyze cannot judge a file: " + done.stderr.strip()[:80])
    level = float(done.stdout.rpartition("gateway.service: ")[2].split()[0])
    assert level < 4.0, done.stdout
