"""Upstreams that fail, speak out of turn or answer too early; and what the circuit makes of it."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.test_contract import refused
from tests.system.tools import WAIT, Call, Daemon, Upstream, free_port, gateway, request

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def one_connection(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose first connection is C{serve}'s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def accept() -> None:
            with contextlib.suppress(ConnectionResetError):
                sock, _ = listener.accept()
                with sock:
                    serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(WAIT)


def test_unasked_bytes_that_are_buffered_already(tmp_path: Path, upstream: Upstream) -> None:
    """
    Bytes nobody asked for, buffered before the gateway's process gets to look at either
    socket, are nobody's answer: the next request goes by another connection.
    """
    sockets: list[socket.socket] = []

    def answer(call: Call) -> bytes:
        call.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # nothing waits on this side
        sockets.append(call.sock)
        return OK

    upstream.answer = answer
    with gateway(tmp_path, upstream) as daemon, daemon.connect() as client:
        for number in range(20):
            client.send(request("/api/v1/users/1"))
            assert client.answer().body == b"ok"
            daemon.process.send_signal(signal.SIGSTOP)
            while ") T " not in Path(f"/proc/{daemon.process.pid}/stat").read_text():
                pass
            if number % 2:  # which of the two the reactor hears of first
                client.send(request("/api/v1/users/2"))
            sockets[-1].sendall(EVIL)
            if not number % 2:
                client.send(request("/api/v1/users/2"))
            daemon.process.send_signal(signal.SIGCONT)
            assert client.answer().body == b"ok"
            assert sockets[-1] is not sockets[-2]


def test_an_answer_before_the_body_is_there(tmp_path: Path, upstream: Upstream) -> None:
    """
    An upstream may answer while the body is still coming: the client gets that answer, the
    rest of the body goes nowhere, and the half-used connection carries no other request.
    """
    got, ended = bytearray(), threading.Event()

    def serve(sock: socket.socket) -> None:
        try:
            while not got.endswith(b"abc"):
                got.extend(sock.recv(65536))
            sock.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")
            while data := sock.recv(65536):
                got.extend(data)
        finally:
            ended.set()

    with one_connection(serve) as port:
        routes = f"[route /early]\nupstream = http://127.0.0.1:{port}"
        with gateway(tmp_path, upstream, routes=routes) as daemon, daemon.connect() as client:
            client.send(request("/early/x", "Content-Length: 1000", method="POST") + b"abc")
            answer = client.answer()
            assert (answer.status, answer.body) == (409, b"no")
            assert ended.wait(WAIT)
            client.send(b"x" * 997 + request("/api/v1/users/1"))
            assert client.answer().status == 200
    assert b"xxx" not in got


def test_a_body_is_never_sent_twice(shared: Daemon, upstream: Upstream) -> None:
    """A PUT whose body has left is not sent again when its reused connection closes: 502 or 200, once each."""
    used: set[int] = set()

    def answer(call: Call) -> bytes | None:
        if call.method == b"PUT" and id(call.sock) in used:
            return None
        used.add(id(call.sock))
        return OK

    upstream.answer = answer
    for number in range(5):
        assert shared.get().status == 200  # leaves an idle connection
        answered = shared.ask(request(f"/api/v1/users/{number}", method="PUT", body=b"once"))
        refused(answered, 502, "Bad gateway")
    puts = [call.target for call in upstream.calls if call.method == b"PUT"]
    assert puts == [b"/%d" % number for number in range(5)]


def test_too_many_interim_answers(shared: Daemon, upstream: Upstream) -> None:
    """An upstream that says 103 for ever never answers: the client's connection gets a 502 in the end."""
    upstream.answer = lambda call: call.sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100 + OK)
    with shared.connect() as client:
        client.send(request("/api/v1/users/1"))
        answer = client.answer()
        while answer.status == 103:
            answer = client.answer()
        refused(answer, 502, "Bad gateway")


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\n\r\nabc", b"HTTP/1.0 200 OK\r\n\r\nabc"])
def test_a_reset_ends_no_answer(shared: Daemon, upstream: Upstream, raw: bytes) -> None:
    """An answer that would end with its connection, and ends with a reset, is cut and never whole."""
    told = threading.Event()

    def answer(call: Call) -> None:
        call.sock.sendall(raw)
        assert told.wait(WAIT)
        call.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    upstream.answer = answer
    with shared.connect() as client:
        client.send(request("/api/v1/users/1"))
        assert client.until(b"abc\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        told.set()
        assert b"0\r\n\r\n" not in client.rest()


def test_an_endless_head(shared: Daemon, upstream: Upstream) -> None:
    """An upstream's head that never ends is 502, held to 64 KiB and no more."""
    def answer(call: Call) -> None:
        with contextlib.suppress(OSError):
            call.sock.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                call.sock.sendall(b"A: " + b"b" * 5000 + b"\r\n")

    upstream.answer = answer
    before = shared.rss()
    refused(shared.get(), 502, "Bad gateway")
    assert shared.rss() - before < 8 << 20


class TestCircuit:
    """What counts, and what does not."""

    def test_refused_connections_count(self, tmp_path: Path, upstream: Upstream) -> None:
        """Refused connections open the circuit, for every route to that address."""
        port = free_port()
        routes = f"[route /a]\nupstream = http://127.0.0.1:{port}/x\n[route /b]\nupstream = http://127.0.0.1:{port}/y\n"
        with gateway(tmp_path, upstream, routes=routes, rest="[breaker]\nfailures = 2") as daemon:
            assert [daemon.get(path).status for path in ("/a", "/b", "/a", "/b")] == [502, 502, 503, 503]
            refused(daemon.get("/b"), 503, "Service unavailable")
            assert int(daemon.get("/b")["Retry-After"]) in range(1, 31)
            assert daemon.get().status == 200  # another address, another circuit

    @pytest.mark.parametrize("fault", ["broken", "timeout"])
    def test_broken_and_late_answers_count(self, tmp_path: Path, upstream: Upstream, fault: str) -> None:
        """An answer that never begins counts, be it that the connection breaks or that time runs out."""
        def answer(call: Call) -> None:
            if fault == "timeout":
                with contextlib.suppress(OSError):
                    call.sock.recv(1)

        upstream.answer = answer
        status = 502 if fault == "broken" else 504
        rest = "[breaker]\nfailures = 2\n[upstream]\nresponse_timeout = 200ms"
        with gateway(tmp_path, upstream, rest=rest) as daemon:
            assert [daemon.get().status for _ in range(3)] == [status, status, 503]

    def test_a_client_that_leaves_counts_neither_way(self, tmp_path: Path, upstream: Upstream) -> None:
        """Clients that leave, and bodies we refuse, open no circuit and close none."""
        def work(call: Call) -> bytes | None:
            if call.target != b"/wait":
                return OK
            asked.set()
            with contextlib.suppress(OSError):
                call.sock.recv(1)
            return None

        upstream.answer = work
        rest = "[breaker]\nfailures = 1\n[body]\nmax_size = 1KiB"
        with gateway(tmp_path, upstream, rest=rest) as daemon:
            for number in range(3):
                asked = threading.Event()
                with daemon.connect() as client:
                    client.send(request("/api/v1/users/wait"))
                    assert asked.wait(WAIT)
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                assert len(daemon.rows(number + 1, "reason = 'client_gone'")) == number + 1
            with daemon.connect() as client:
                client.send(request("/api/v1/users/", "Transfer-Encoding: chunked", method="POST"))
                client.send(b"800\r\n" + b"x" * 2048 + b"\r\n")
                assert client.answer().status == 413
            assert daemon.get().status == 200

    def test_one_trial_at_a_time(self, tmp_path: Path, upstream: Upstream) -> None:
        """Half-open lets one request through; all others are 503 until it is decided."""
        asked, go = threading.Event(), threading.Event()

        def answer(call: Call) -> bytes | None:
            if call.target == b"/fail":
                return None
            asked.set()
            assert go.wait(WAIT)
            return OK

        upstream.answer = answer
        with gateway(tmp_path, upstream, rest="[breaker]\nfailures = 1\nreset_after = 100ms") as daemon:
            assert daemon.get("/api/v1/users/fail").status == 502
            with daemon.connect() as trial:
                while not asked.is_set():  # the rest has to pass first
                    trial.send(request("/api/v1/users/trial"))
                    if not asked.wait(0.05):
                        assert trial.answer().status == 503
                others = [daemon.get().status for _ in range(10)]
                go.set()
                assert trial.answer().status == 200
            assert others == [503] * 10
            assert daemon.get().status == 200
            assert [call.target for call in upstream.calls] == [b"/fail", b"/trial", b"/7"]
