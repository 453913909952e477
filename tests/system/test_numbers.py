"""Attacks by numbers: thousands of stalled clients, hundreds of odd paths."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.system.tools import WAIT, Daemon, Upstream, gateway, request

STALLED = 2000

PHASES = {
    "before a head": (b"", b""),
    "in a request line": (b"GET / HT", b"408"),
    "in a head": (b"GET / HTTP/1.1\r\nHost: a\r\nA:", b"408"),
    "in a body": (request("/api/v1/users/", "Content-Length: 9", method="POST") + b"x", b"408"),
    "in a chunk": (request("/api/v1/users/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nab", b"408"),
    "behind an answer": (request("/health", tok=None), b"200"),
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, shared_upstream: Upstream) -> Iterator[Daemon]:
    """A daemon that waits for nobody for long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * STALLED:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    times = "header_timeout = 2s\nbody_timeout = 2s\nidle_timeout = 2s"
    rest = f"[upstream]\nconnections = {STALLED}\n[breaker]\nfailures = 100000"
    with gateway(tmp_path_factory.mktemp("impatient"), shared_upstream, gateway=times, rest=rest) as daemon:
        yield daemon
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("phase", PHASES)
def test_row_14_stalled_clients(impatient: Daemon, upstream: Upstream, phase: str) -> None:
    """
    Row 14 (GHSA-xw98-5q62-jx94): two thousand clients that stall in one place keep nobody
    else waiting, and are all gone after its deadline.
    """
    raw, status = PHASES[phase]
    with contextlib.ExitStack() as stack:
        stalled = []
        for _ in range(STALLED):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=WAIT))
            sock.sendall(raw)
            stalled.append(sock)
        assert impatient.get().status == 200
        for sock in stalled:
            data = b""
            while more := sock.recv(65536):
                data += more
            assert data[9:12] == status
    assert impatient.get().status == 200


PIECES = ["a", "b7", ".", "..", "%2e", "%2F", "%25", "%252e", "%41", ";", ";x=1", "~", "é", "%C3%A9", "%20", "...", "=", "@", ":", "a.b", "%5C", "$&'()*+,!"]


def test_row_8_fuzzed_paths(shared: Daemon, upstream: Upstream) -> None:
    """
    Row 8: of three hundred random paths each is refused, or the audit's path less the
    prefix is what the upstream saw, byte for byte.
    """
    rng = random.Random(8)
    passed = 0
    for _ in range(300):
        rest = "".join("/" + "".join(rng.choices(PIECES, k=rng.randint(0, 3))) for _ in range(rng.randint(1, 4)))
        rest = rest.encode().decode("latin-1")
        answer = shared.get("/api/v1/users" + rest)
        calls, upstream.calls[:] = list(upstream.calls), []
        if answer.status == 200:
            passed += 1
            row = shared.rows(1, f"request_id = '{answer['X-Request-ID']}'")
            assert (row[0]["path"], calls[0].target.decode()) == ("/api/v1/users" + rest, rest)
        else:
            assert answer.status in (400, 404)
            assert calls == []
    assert 30 < passed < 270


@pytest.mark.parametrize("size", [7000, 8000])
def test_row_15_long_values(shared: Daemon, upstream: Upstream, size: int) -> None:
    """Row 15: a path and a query of thousands of bytes are one row, the path as it came, the query left out."""
    path = "/api/v1/users/" + "p" * (size // 2)
    answer = shared.get(path + "?" + "q" * (size // 2))
    assert answer.status == 200
    rows = shared.rows(1, f"request_id = '{answer['X-Request-ID']}'")
    assert [row["path"] for row in rows] == [path]
