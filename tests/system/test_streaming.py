"""Bodies both ways: streamed, with back-pressure, whole or cut, never falsely complete."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.system.scripts import Silent
from tests.system.tools import WAIT, Call, Daemon, Upstream, dechunk, gateway, request
from tests.system.waiting import until

MIB = 1 << 20


def answering(raw: bytes) -> object:
    """An upstream that says C{raw} and closes."""

    def answer(call: Call) -> None:
        call.sock.sendall(raw)

    return answer


def test_chunked_both_ways_with_trailers(shared: Daemon, upstream: Upstream) -> None:
    """Chunked bodies and their trailers go through, identity trailers do not."""
    upstream.answer = lambda call: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n"
    )
    with shared.connect() as client:
        client.send(
            request("/api/v1/users/", "Transfer-Encoding: chunked", method="PUT")
            + b"5\r\nhello\r\n0\r\nX-Fine: 1\r\nx_user.id: root\r\nX-User-ID: root\r\nX-Forwarded-For: 10.6.6.6\r\nTransfer-Encoding: x\r\n\r\n"
        )
        answer = client.answer()
    assert answer.body == b"abcdefg"
    assert answer.values("X-Sum") == ["7"]
    assert answer.values("Content-Length") == []
    assert dechunk(upstream.calls[0].body) == (b"hello", b"X-Fine: 1\r\n")


def test_until_close(shared: Daemon, upstream: Upstream) -> None:
    """An answer that ends with its connection reaches an HTTP/1.1 client chunked and whole."""
    upstream.answer = answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 100_000)
    answer = shared.get()
    assert (answer.whole, answer.body) == (True, b"z" * 100_000)
    assert answer["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_no_body_statuses(shared: Daemon, upstream: Upstream, status: bytes) -> None:
    """204 and 304 have no body, whatever their fields say, and the connection goes on."""
    upstream.answer = lambda call: b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"
    with shared.connect() as client:
        for _ in range(2):
            client.send(request("/api/v1/users/1"))
            assert client.answer().status == int(status[:3])


def test_head(shared: Daemon, upstream: Upstream) -> None:
    """HEAD gets the length GET would have, no body, and the connection goes on."""
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    with shared.connect() as client:
        for _ in range(2):
            client.send(request("/api/v1/users/1", method="HEAD"))
            assert client.answer(head=True)["Content-Length"] == "1234"


def test_interim_answers(shared: Daemon, upstream: Upstream) -> None:
    """103 Early Hints goes through; the upstream's 100 does not (we have said it)."""
    upstream.answer = lambda call: (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    with shared.connect() as client:
        client.send(request("/api/v1/users/1"))
        first = client.answer()
        assert (first.status, first["Link"]) == (103, "a")
        assert client.answer().body == b"ok"


def test_expect_continue(shared: Daemon, upstream: Upstream) -> None:
    """A client that waits is told to go on only when its request is admitted."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().status == 200
    assert upstream.calls[0].body == b"abc"
    assert upstream.calls[0].values("Expect") == []
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Expect: 100-continue", "Content-Length: 3", tok=None, method="POST"))
        answer = client.answer()
        assert (answer.status, answer["Connection"]) == (401, "close")


def test_early_refusal_of_a_small_body(shared: Daemon, upstream: Upstream) -> None:
    """A refusal while at most 64 KiB are on their way swallows them and keeps the connection."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Content-Length: 1000", tok=None, method="POST"))
        assert client.answer().status == 401
        client.send(b"x" * 1000 + request("/api/v1/users/1"))
        assert client.answer().status == 200
    assert len(upstream.calls) == 1


def test_early_refusal_of_a_large_body(shared: Daemon, upstream: Upstream) -> None:
    """With more on its way the answer arrives whole and the connection ends, without a reset."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Content-Length: 5000000", tok=None, method="POST"))
        client.send(b"x" * 30_000)
        answer = client.answer()
        assert (answer.status, answer.whole, answer["Connection"]) == (401, True, "close")
        assert client.rest() == b""
    assert upstream.log == b""


def test_early_answer_of_the_upstream(shared: Daemon, upstream: Upstream) -> None:
    """An upstream may answer before it has the whole body; the client gets that answer."""
    def early(call: Call) -> None:
        call.sock.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        with contextlib.suppress(OSError):
            while call.sock.recv(65536):
                pass

    upstream.answer = early
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Transfer-Encoding: chunked", method="POST"))
        client.send(b"3\r\nabc\r\n0\r\n\r\n")
        assert client.answer().status == 409


def test_half_close_is_answered(shared: Daemon, upstream: Upstream) -> None:
    """A client that shuts down its sending side after a whole request gets its answer."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/1") + request("/api/v1/users/2"))
        client.sock.shutdown(socket.SHUT_WR)
        assert [client.answer().body, client.answer().body] == [b"ok", b"ok"]
        assert client.rest() == b""


def test_client_gone_in_its_body(shared: Daemon, upstream: Upstream) -> None:
    """A client that leaves in the middle of its body takes the upstream's request with it."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/gone", "Content-Length: 1000", method="POST") + b"abc")
        until(lambda: b"abc" in upstream.log)
        while upstream.ended.acquire(blocking=False):
            pass
    assert upstream.ended.acquire(timeout=WAIT)
    assert upstream.calls == []
    rows = shared.rows(1, "path = '/api/v1/users/gone'")
    assert (rows[0]["status"], rows[0]["reason"]) == (499, "client_gone")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_client_gone_while_waiting(shared: Daemon, upstream: Upstream, how: str) -> None:
    """A client that leaves while the upstream works frees the upstream, however it leaves."""
    silent = upstream.answer = Silent()
    with shared.connect() as client:
        client.send(request("/api/v1/users/wait"))
        assert silent.asked.wait(WAIT)
        if how == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert silent.freed.wait(WAIT)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ],
)
def test_upstream_gone_in_its_answer(shared: Daemon, upstream: Upstream, raw: bytes) -> None:
    """An answer that breaks off is cut; the client never takes it for whole."""
    upstream.answer = answering(raw)
    answer = shared.get("/api/v1/users/cut")
    assert (answer.status, answer.whole) == (200, False)
    rows = shared.rows(1, "path = '/api/v1/users/cut'")
    assert rows[-1]["reason"] == "upstream_cut"


def test_bytes_beyond_an_answer(shared: Daemon, upstream: Upstream) -> None:
    """What an upstream says beyond its answer never becomes somebody else's answer."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil
    for _ in range(5):
        assert shared.get().body == b"ok"
    upstream.answer = lambda call: b"HTTP/1.1 204 No\r\n\r\n" + evil
    for _ in range(5):
        assert shared.get().body == b""
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil
    with shared.connect() as client:
        client.send(request("/api/v1/users/1") * 5)
        assert [client.answer().body for _ in range(5)] == [b"ok"] * 5


def test_bytes_nobody_asked_for(shared: Daemon, upstream: Upstream) -> None:
    """An idle connection on which something arrives is never used again."""
    said = threading.Event()

    def answer(call: Call) -> bytes:
        if call.target == b"/first":
            def later() -> None:
                with contextlib.suppress(OSError):
                    call.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                said.set()

            threading.Timer(0.05, later).start()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    upstream.answer = answer
    shared.get("/api/v1/users/first")
    assert said.wait(WAIT)
    for _ in range(5):
        assert shared.get().body == b"ok"


def test_stale_connection_is_retried(shared: Daemon, upstream: Upstream) -> None:
    """An idle connection the upstream has closed costs an idempotent request nothing."""
    closed = threading.Event()

    def once(call: Call) -> None:
        call.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        call.sock.close()
        closed.set()

    for _ in range(10):
        closed.clear()
        upstream.answer = once
        assert shared.get().status == 200
        assert closed.wait(WAIT)


def test_upstream_closes_when_asked_again(shared: Daemon, upstream: Upstream) -> None:
    """A reused connection that closes at the next request: GET is sent again, POST is not."""
    first: set[int] = set()

    def answer(call: Call) -> bytes | None:
        key = id(call.sock)
        if key in first:
            return None
        first.add(key)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    upstream.answer = answer
    assert [shared.get().status for _ in range(6)] == [200] * 6
    statuses = {shared.get(method="POST").status for _ in range(6)}
    assert statuses <= {200, 502}
    posts = [call for call in upstream.calls if call.method == b"POST"]
    assert len(posts) == 6  # nothing was sent twice


def test_large_bodies_arrive_unchanged(shared: Daemon, upstream: Upstream) -> None:
    """Eight megabytes up and down are the same bytes at the other end."""
    data = bytes(range(256)) * (8 * MIB // 256)
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(call.body), call.body)
    with shared.connect() as client:
        sender = threading.Thread(target=client.send, args=(request("/api/v1/users/", method="POST", body=data),))
        sender.start()
        answer = client.answer()
        sender.join()
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()


def test_slow_reader_is_cut_when_it_takes_nothing(tmp_path: Path, upstream: Upstream) -> None:
    """A client that takes nothing of its answer for send_timeout is cut, the upstream freed."""
    freed = threading.Event()

    def push(call: Call) -> None:
        with contextlib.suppress(OSError):
            call.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n")
            while True:
                call.sock.sendall(b"x" * MIB)
        freed.set()

    upstream.answer = push
    with gateway(tmp_path, upstream, gateway="send_timeout = 500ms") as daemon, daemon.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(request("/api/v1/users/1"))
        assert freed.wait(WAIT)
        assert daemon.rows(1)[0]["reason"] == "cut"
