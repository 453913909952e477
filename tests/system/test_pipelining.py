"""Pipelined requests: answered in their order, each whole, whatever the one behind it is."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from tests.system.scripts import Held, Silent
from tests.system.tools import WAIT, Call, Daemon, Upstream, request, token

POST = b"POST /api/v1/users/2 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n" % token().encode()

SECONDS = {
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "attack path": request("/api/v1/users/../orders"),
    "bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "two tokens": request("/api/v1/users/2", f"Authorization: Bearer {token()}"),
}


@pytest.mark.parametrize("name", SECONDS)
def test_first_of_two_pipelined_stays_whole(shared: Daemon, upstream: Upstream, name: str) -> None:
    """A fault in the second of two pipelined requests leaves the first one's answer whole."""
    held = upstream.answer = Held(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"w" * 200_000)
    with shared.connect() as client:
        client.send(request("/api/v1/users/1") + SECONDS[name] + request("/api/v1/users/3"))
        assert held.asked.wait(WAIT)  # the first is under way, the fault is there already
        held.go.set()
        first, second = client.answer(), client.answer()
        assert (first.status, first.whole, first.body) == (200, True, b"w" * 200_000)
        assert (second.status, second.error, second["Connection"]) == (400, "Bad request", "close")
        assert client.rest() == b""
    assert [call.target for call in upstream.calls] == [b"/1"]


def test_fifty_pipelined_in_order(shared: Daemon, upstream: Upstream) -> None:
    """
    Row 9 (CVE-2023-46137, CVE-2024-41671): fifty pipelined requests, of which some are
    answered at once and some only when all before them have reached the client, are
    answered in their order.
    """
    seen = threading.Semaphore(0)

    def answer(call: Call) -> bytes:
        number = int(call.target[1:])
        if number % 7 == 6:
            for _ in range(7):
                assert seen.acquire(timeout=WAIT)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d" % (len(str(number)), number)

    upstream.answer = answer
    bodies = []
    with shared.connect() as client:
        client.send(b"".join(request(f"/api/v1/users/{n}") for n in range(50)))
        seen.release()  # nothing is before the first
        for _ in range(50):
            bodies.append(client.answer().body)
            seen.release()
    assert bodies == [str(n).encode() for n in range(50)]


def test_refusals_and_answers_in_order(shared: Daemon, upstream: Upstream) -> None:
    """An answer the gateway knows at once waits its turn behind one the upstream takes time for."""
    held = upstream.answer = Held()
    with shared.connect() as client:
        client.send(request("/api/v1/users/1") + request("/nowhere") + request("/health", tok=None) + request("/x", tok=None))
        client.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        client.sock.settimeout(WAIT)
        held.go.set()
        assert [client.answer().status for _ in range(4)] == [200, 404, 200, 401]


def test_more_pipelined_than_is_held(shared: Daemon, upstream: Upstream) -> None:
    """A client that sends far more ahead than is held is read as its answers leave; none is lost."""
    raw = b"".join(request(f"/api/v1/users/{n}", "X-Pad: " + "p" * 1000) for n in range(600))
    assert len(raw) > 10 * 65536
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nX-T: %s\r\nContent-Length: 0\r\n\r\n" % call.target
    with shared.connect() as client:
        sender = threading.Thread(target=client.send, args=(raw,))
        sender.start()
        assert [client.answer()["X-T"] for _ in range(600)] == [f"/{n}" for n in range(600)]
        sender.join(WAIT)


def test_a_client_that_leaves_takes_its_queue_along(shared: Daemon, upstream: Upstream) -> None:
    """Requests that wait behind the one under way are not sent for a client that is gone."""
    silent = upstream.answer = Silent()
    with shared.connect() as client:
        client.send(request("/api/v1/users/1") + request("/api/v1/users/2") * 3)
        assert silent.asked.wait(WAIT)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert silent.freed.wait(WAIT)
    assert shared.get("/health", tok=None).status == 200
    assert [call.target for call in upstream.calls] == [b"/1"]


def test_a_client_that_reads_late_loses_nothing(shared: Daemon, upstream: Upstream) -> None:
    """Answers that its socket takes in part only, or not at all, arrive whole and in order once it reads."""
    bodies = [b"%06d" % number * 5000 for number in range(300)]
    numbers, asked = iter(range(len(bodies))), threading.Semaphore(0)

    def answer(_: Call) -> bytes:
        asked.release()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + bodies[next(numbers)]

    upstream.answer = answer
    with shared.connect() as client:
        for _ in bodies:
            client.send(request("/api/v1/users/late"))
            assert asked.acquire(timeout=WAIT)
        assert [client.answer().body for _ in bodies] == bodies
