"""Requests that two parsers could read differently: refused, closed, nothing forwarded."""

from __future__ import annotations

import pytest

from tests.system.tools import Daemon, Upstream, dechunk, request, token

POST = b"POST /api/v1/users/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n" % token().encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

HEADS = {
    "length and coding": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal lengths": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length list": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "hex length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "empty length": POST + b"Content-Length: \r\n\r\nabc",
    "negative length": POST + b"Content-Length: -1\r\n\r\nabc",
    "length with blank": POST + b"Content-Length: 1 2\r\n\r\nabc",
    "huge length": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc",
    "folded line": POST + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "bare LF in a field": POST + b"A: b\nContent-Length: 0\r\n\r\n",
    "bare LF heads": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR": POST + b"A: b\rc\r\n\r\n",
    "blank before colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "tab before colon": POST + b"Content-Length\t: 3\r\n\r\nabc",
    "empty name": POST + b": 3\r\n\r\n",
    "no colon": POST + b"Content-Length\r\n\r\n",
    "NUL in a value": POST + b"A: b\x00c\r\n\r\n",
    "NUL in a name": POST + b"A\x00: b\r\n\r\n",
    "control in a value": POST + b"A: b\x0bc\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nA: b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "host with path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "conflicting host": b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "coding in 1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding list": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "empty coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "coding with parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "vertical tab coding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "trailing blank": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "tab in request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw bytes in target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "backslash": b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority form": b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "star": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "two empty lines": b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown expectation": POST + b"Expect: tea\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_ambiguous_heads(shared: Daemon, upstream: Upstream, name: str) -> None:
    """Row 9 (CVE-2022-24801, CVE-2023-25725): 400, the connection ends, zero bytes forwarded."""
    with shared.connect() as client:
        client.send(HEADS[name] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.error) == (400, "Bad request")
        assert answer["Connection"] == "close"
        assert client.rest() == b""
    assert upstream.log == b""


@pytest.mark.parametrize("coding", [b"xchunked", b"gzip", b"identity"])
def test_unknown_coding(shared: Daemon, upstream: Upstream, coding: bytes) -> None:
    """Row 9: one well-formed unknown transfer coding is 501, and closes just so."""
    with shared.connect() as client:
        client.send(POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n")
        assert client.answer().status == 501
        assert client.rest() == b""
    assert upstream.log == b""


BODIES = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "0x size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "blank size": b" 3\r\nabc\r\n0\r\n\r\n",
    "blank behind size": b"3 \r\nabc\r\n0\r\n\r\n",
    "huge size": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "bare LF size": b"3\nabc\r\n0\r\n\r\n",
    "bare LF end": b"3\r\nabc\n0\r\n\r\n",
    "too long data": b"3\r\nabcd\r\n0\r\n\r\n",
    "extension with LF": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "extension with NUL": b"3;a=\x00\r\nabc\r\n0\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
    "trailer without colon": b"3\r\nabc\r\n0\r\nA\r\n\r\n",
    "bare LF trailer": b"3\r\nabc\r\n0\r\nA: b\n\r\n\r\n",
}


@pytest.mark.parametrize("name", BODIES)
def test_ambiguous_chunks(shared: Daemon, upstream: Upstream, name: str) -> None:
    """Broken chunk framing ends the request with 400; the upstream never gets it whole."""
    with shared.connect() as client:
        client.send(CHUNKED + BODIES[name])
        assert client.answer().status == 400
        assert client.rest() == b""
    assert upstream.calls == []


def test_one_byte_at_a_time(shared: Daemon, upstream: Upstream) -> None:
    """However a request is cut into packets, it is the same request."""
    raw = request("/api/v1/users/1", "Transfer-Encoding: chunked", method="POST")
    raw += b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    with shared.connect() as client:
        for at in range(len(raw)):
            client.send(raw[at : at + 1])
        assert client.answer().status == 200
    assert dechunk(upstream.calls[0].body) == (b"abcde", b"X-T: 1\r\n")


def test_absolute_form(shared: Daemon, upstream: Upstream) -> None:
    """An absolute-form target is served when its authority is the Host."""
    raw = request("/api/v1/users/1?q").replace(b"GET /", b"GET http://gateway.test:80/")
    assert shared.ask(raw).status == 200
    assert upstream.calls[-1].target == b"/1?q"


def test_leading_crlf_is_skipped(shared: Daemon, upstream: Upstream) -> None:
    """One empty line before a request is skipped (RFC 9112 section 2.2)."""
    assert shared.ask(b"\r\n" + request("/api/v1/users/1")).status == 200


def test_http_1_0(shared: Daemon, upstream: Upstream) -> None:
    """HTTP/1.0 is closed after one answer unless it asks to be kept."""
    raw = request("/api/v1/users/1").replace(b"HTTP/1.1", b"HTTP/1.0")
    with shared.connect() as client:
        client.send(raw)
        assert client.answer()["Connection"] == "close"
        assert client.rest() == b""
    kept = raw.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    with shared.connect() as client:
        for _ in range(2):
            client.send(kept)
            assert client.answer()["Connection"] == "keep-alive"
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    with shared.connect() as client:
        client.send(kept)
        assert client.rest().endswith(b"\r\n\r\nhi")


RESPONSES = {
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "folded": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n c\r\n\r\nhi",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi",
    "bad status": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "blank before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
    "NUL": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: \x00\r\n\r\nhi",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", RESPONSES)
def test_ambiguous_answers(shared: Daemon, upstream: Upstream, name: str) -> None:
    """An upstream's answer that could be read differently is 502 and ends its connection."""
    upstream.answer = lambda call: call.sock.sendall(RESPONSES[name]) or (call.sock.recv(1) and None)
    answer = shared.get()
    assert (answer.status, answer.error) == (502, "Bad gateway")
