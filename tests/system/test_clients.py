"""Clients that stall, leave, shut down early or come all at once."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.system.test_contract import refused
from tests.system.tools import WAIT, Daemon, Upstream, gateway, request, token


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nA:", None),
        (request("/api/v1/users/", "Content-Length: 9", method="POST") + b"x", "request_timeout"),
        (request("/api/v1/users/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nab", "request_timeout"),
        (request("/api/v1/users/", "Expect: 100-continue", "Content-Length: 9", method="POST"), "request_timeout"),
    ],
)
def test_stage_1_timeout(tmp_path: Path, upstream: Upstream, raw: bytes, reason: str | None) -> None:
    """A head or a body that stops coming is 408 in the contract's words; the upstream never gets it whole."""
    with gateway(tmp_path, upstream, gateway="header_timeout = 300ms\nbody_timeout = 300ms") as daemon, daemon.connect() as client:
        client.send(raw)
        if b"Expect" in raw:
            assert client.answer().status == 100
        answer = client.answer()
        refused(answer, 408, "Request timeout")
        assert answer["Connection"] == "close"
        assert client.rest() == b""
        if reason is not None:
            assert [(row["status"], row["reason"]) for row in daemon.rows(1)] == [(408, reason)]
    assert upstream.calls == []


def test_refusal_of_head(shared: Daemon) -> None:
    """HEAD is refused without a body, with the length it would have had, and the connection goes on."""
    with shared.connect() as client:
        for _ in range(2):
            client.send(request("/nowhere", method="HEAD"))
            answer = client.answer(head=True)
            assert (answer.status, int(answer["Content-Length"]) > 20) == (404, True)
        client.send(request("/health", tok=None))
        assert client.answer().status == 200


@pytest.mark.parametrize("refusal", ["token", "policy", "size", "limit"])
def test_early_refusals_forward_nothing(shared: Daemon, upstream: Upstream, refusal: str) -> None:
    """401, 403, 413 and 429 are given while the body is on its way; who goes on sending is cut off."""
    path, tok, status = {
        "token": ("/api/v1/users/x", None, 401), "policy": ("/strict/x", token(role="guest"), 403),
        "size": ("/small/x", "", 413), "limit": ("/limited/x", token("early"), 429),
    }[refusal]  # fmt: skip
    if refusal == "limit":
        for _ in range(3):
            assert shared.get(path, tok=tok).status == 200
        upstream.calls.clear()
        upstream.log.clear()
    with shared.connect() as client:
        client.send(request(path, "Transfer-Encoding: chunked", tok=tok, method="POST"))
        endless = threading.Thread(target=_send_for_ever, args=(client.sock,))
        endless.start()
        answer = client.answer()
        assert (answer.status, answer.whole, answer["Connection"]) == (status, True, "close")
        endless.join(WAIT)  # its sends fail: the gateway discards no more than it has promised
        assert not endless.is_alive()
    upstream.settle()
    assert upstream.calls == []
    if refusal != "size":  # a chunked body shows its size as it streams
        assert upstream.log == b""


def _send_for_ever(sock: socket.socket) -> None:
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    try:
        while True:
            sock.sendall(chunk)
    except OSError:
        return


def test_half_close_before_a_large_answer(shared: Daemon, upstream: Upstream) -> None:
    """Who shuts down sending gets a large answer whole, kept alive or not."""
    body = b"d" * (8 << 20)
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for fields in ([], ["Connection: close"]):
        with shared.connect() as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.send(request("/api/v1/users/1", *fields))
            client.until(b"\r\n\r\n")  # the answer is under way
            client.sock.shutdown(socket.SHUT_WR)
            assert len(client.rest()) == len(body)


def test_half_close_in_a_body(shared: Daemon, upstream: Upstream) -> None:
    """Who shuts down in the middle of a body has broken the request off: nothing whole is forwarded."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Content-Length: 10", method="POST") + b"abc")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
    upstream.settle()
    assert upstream.calls == []


def test_a_cut_answer_of_1_0_is_a_reset(shared: Daemon, upstream: Upstream) -> None:
    """An HTTP/1.0 client, whose answers end with the connection, sees a reset when one breaks off."""
    upstream.answer = lambda call: call.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    with shared.connect() as client:
        client.send(request("/api/v1/users/1").replace(b"HTTP/1.1", b"HTTP/1.0"))
        with pytest.raises(ConnectionResetError):
            while client.sock.recv(65536):
                pass


def test_many_at_once_race_nothing(shared: Daemon, upstream: Upstream) -> None:
    """The original read its counter, then wrote it, and raced; of thirty at once exactly three pass."""
    tok = token("racer")
    statuses: list[int] = []
    together = threading.Barrier(30)

    def ask() -> None:
        with shared.connect() as client:
            together.wait(WAIT)
            client.send(request("/limited/x", tok=tok))
            statuses.append(client.answer().status)

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(statuses) == [200] * 3 + [429] * 27
    assert len(upstream.calls) == 3


def test_no_line_for_each_request(tmp_path: Path, upstream: Upstream) -> None:
    """By default requests, refused or not, leave nothing in the log."""
    with gateway(tmp_path, upstream) as daemon:
        before = daemon.log.read_bytes()
        for path, tok in (("/api/v1/users/1", ""), ("/nowhere", ""), ("/api/v1/users/1", None), ("/a/../b", "")):
            daemon.get(path, tok=tok)
        daemon.ask(b"rubbish\r\n\r\n")
        daemon.rows(4)
        assert daemon.log.read_bytes() == before
