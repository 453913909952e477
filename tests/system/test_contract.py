"""The contract's table, row by row, with its exact texts, on real sockets."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from pathlib import Path

import pytest

from tests.system.tools import WAIT, Answer, Call, Daemon, Upstream, gateway, request, token


def refused(answer: Answer, status: int, sentence: str) -> None:
    """A refusal as the contract wants all of them."""
    assert answer.status == status
    body = json.loads(answer.body)
    assert body["error"] == sentence
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", answer["X-Request-ID"])
    assert body["request_id"] == answer["X-Request-ID"]


@pytest.mark.parametrize(
    ("raw", "status", "sentence"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Bad request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI too long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 40000 + b"\r\n\r\n", 431, "Request header fields too large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431, "Request header fields too large"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "Not implemented"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, "Not implemented"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "HTTP version not supported"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP version not supported"),
    ],
)
def test_stage_1_parsing(shared: Daemon, raw: bytes, status: int, sentence: str) -> None:
    """What is no unambiguous request is refused in the contract's words and closed."""
    with shared.connect() as client:
        client.send(raw)
        refused(client.answer(), status, sentence)
        assert client.rest() == b""


def test_stage_2_address(tmp_path: Path, upstream: Upstream) -> None:
    """An address outside allow gets 403 on every path, before its token is looked at."""
    with gateway(tmp_path, upstream, rest="[ip]\nallow = 192.0.2.0/24") as daemon:
        for path in ("/api/v1/users/7", "/health", "/nowhere"):
            refused(daemon.get(path), 403, "IP address not allowed")
        assert [row["reason"] for row in daemon.rows(3)] == ["address"] * 3


def test_stage_2_deny_for_one_route(tmp_path: Path, upstream: Upstream) -> None:
    """A route's own deny holds for that route alone."""
    routes = f"[route /far]\nupstream = http://127.0.0.1:{upstream.port}\nip.deny = 127.0.0.0/8"
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        refused(daemon.get("/far/x"), 403, "IP address not allowed")
        assert daemon.get().status == 200


def test_stage_3_cors(shared: Daemon, upstream: Upstream) -> None:
    """OPTIONS is answered at once, without a token, and nothing is forwarded."""
    answer = shared.get(method="OPTIONS", tok=None)
    assert (answer.status, answer.body) == (200, b"")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    assert answer["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    assert answer["Access-Control-Max-Age"] == "86400"
    assert upstream.calls == []


def test_stage_3_cors_headers_on_errors_too(shared: Daemon) -> None:
    """A script may read why it was refused."""
    answer = shared.get(tok=None)
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (401, "*")


def test_stage_4_health(shared: Daemon) -> None:
    """Anybody may ask whether the gateway lives; the query does not matter."""
    answer = shared.get("/health?x=1", tok=None)
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok", "edge": "test-edge"})
    assert answer.body == b'{"status": "ok", "edge": "test-edge"}'
    assert shared.get("/health", tok=None, method="HEAD").status == 200
    assert shared.get("/health", tok=None, method="POST").status == 401


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (None, "Missing or invalid Authorization header"),
        ("Basic YTpi", "Missing or invalid Authorization header"),
        ("Bearer", "Missing or invalid Authorization header"),
        ("Bearer " + token()[:-6] + "AAAAAA", "Invalid token signature"),
        ("Bearer " + token(exp=1), "Token expired"),
        ("Bearer x.y", "Token validation failed"),
        ("Bearer " + token(sub=None), "Token validation failed"),
        ("Bearer " + token(sub="a\nb"), "Token validation failed"),
        ("Bearer " + token(exp=None), "Token validation failed"),
        ("Bearer " + token(nbf=time.time() + 900), "Token validation failed"),
    ],
)
def test_stage_5_token(shared: Daemon, upstream: Upstream, field: str | None, sentence: str) -> None:
    """A request without a valid token is told why, with a challenge; nothing is forwarded."""
    fields = [f"Authorization: {field}"] if field else []
    answer = shared.get("/api/v1/users/7", *fields, tok=None)
    refused(answer, 401, sentence)
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert upstream.calls == []


def test_stage_5_scheme_in_any_case(shared: Daemon, upstream: Upstream) -> None:
    """The scheme's case does not matter (RFC 9110 section 11.1)."""
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert shared.get("/api/v1/users/7", f"Authorization: {scheme} {token()}", tok=None).status == 200


def test_stage_5_two_tokens(shared: Daemon, upstream: Upstream) -> None:
    """Two Authorization fields are an attack on whoever reads only one: 400."""
    refused(shared.get("/api/v1/users/7", f"Authorization: Bearer {token()}"), 400, "Bad request")


def test_stage_6_limit(shared: Daemon, upstream: Upstream) -> None:
    """The fourth request of one user gets 429; another user's first does not."""
    mine, other = token("lim-1"), token("lim-2")
    seen = [shared.get("/limited/x", tok=mine) for _ in range(4)]
    assert [a.status for a in seen] == [200, 200, 200, 429]
    assert [a["X-RateLimit-Remaining"] for a in seen] == ["2", "1", "0", "0"]
    last = seen[-1]
    refused(last, 429, "Rate limit exceeded")
    assert last["X-RateLimit-Limit"] == "3"
    assert 1 <= int(last["Retry-After"]) <= 68
    assert abs(int(last["X-RateLimit-Reset"]) - time.time() - int(last["Retry-After"])) <= 3
    assert shared.get("/limited/x", tok=other).status == 200
    assert shared.get(tok=mine).status == 200  # a route of its own, a counter of its own


def test_stage_7_route(shared: Daemon, upstream: Upstream) -> None:
    """No route: 404, but a stranger is told 401 first and so learns nothing."""
    refused(shared.get("/nowhere"), 404, "Route not found")
    refused(shared.get("/nowhere", tok=None), 401, "Missing or invalid Authorization header")


def test_stage_7_whole_segments(shared: Daemon, upstream: Upstream) -> None:
    """
    A prefix matches whole segments: the original sent this path to
    users-service.internal.attacker.example, identity headers and all.
    """
    for path in ("/api/v1/users.attacker.example/", "/api/v1/usersx", "/api/v1/users;x", "/api/v1/users../x"):
        assert shared.get(path).status == 404, path
    assert upstream.calls == []


def test_stage_8_policy(shared: Daemon, upstream: Upstream) -> None:
    """Role and method of a route are asked for; 405 names what is allowed."""
    refused(shared.get("/strict/x", tok=token(role="guest")), 403, "Forbidden")
    answer = shared.get("/strict/x", method="DELETE")
    refused(answer, 405, "Method not allowed")
    assert {"GET", "POST"} <= set(answer["Allow"].split(", "))
    assert shared.get("/strict/x").status == 200


def test_stage_8_scopes_and_claims(shared: Daemon, upstream: Upstream) -> None:
    """Scope and claim are both needed."""
    assert shared.get("/scoped", tok=token(scope="a orders:read", department="finance")).status == 200
    assert shared.get("/scoped", tok=token(scope="orders:reader", department="finance")).status == 403
    assert shared.get("/scoped", tok=token(scope="orders:read", department="it")).status == 403


def test_stage_9_declared_size(shared: Daemon, upstream: Upstream) -> None:
    """A declared length over the limit is refused before a byte is read or forwarded."""
    with shared.connect() as client:
        client.send(request("/small/x", "Content-Length: 1025", method="POST"))
        refused(client.answer(), 413, "Request body too large")
    assert upstream.log == b""


def test_stage_9_ten_mebibytes(shared: Daemon, upstream: Upstream) -> None:
    """By default 10 MiB pass and a byte more does not."""
    with shared.connect() as client:
        client.send(request("/api/v1/users/", f"Content-Length: {(10 << 20) + 1}", method="PUT"))
        assert client.answer().status == 413
    with shared.connect() as client:
        client.send(request("/api/v1/users/", method="PUT", body=b"x" * (10 << 20)))
        assert client.answer().status == 200
    assert len(upstream.calls[-1].body) == 10 << 20


def test_stage_9_chunked_size(shared: Daemon, upstream: Upstream) -> None:
    """A chunked body is counted as it streams; the upstream never gets a whole request."""
    with shared.connect() as client:
        client.send(request("/small/x", "Transfer-Encoding: chunked", method="POST"))
        client.send((b"200\r\n" + b"x" * 512 + b"\r\n") * 3 + b"0\r\n\r\n")
        refused(client.answer(), 413, "Request body too large")
    assert upstream.calls == []


def test_stage_10_circuit(tmp_path: Path, upstream: Upstream) -> None:
    """Five failures open the circuit; then 503 without a try; a trial closes it again."""
    upstream.answer = lambda call: b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    with gateway(tmp_path, upstream, rest="[breaker]\nreset_after = 1s") as daemon:
        assert [daemon.get().status for _ in range(5)] == [503] * 5
        count = len(upstream.calls)
        answer = daemon.get()
        refused(answer, 503, "Service unavailable")
        assert answer["Retry-After"] == "1"
        assert len(upstream.calls) == count
        upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        deadline = time.monotonic() + 10
        while daemon.get().status != 200:
            assert time.monotonic() < deadline
        assert daemon.get().status == 200


def test_stage_10_not_500(shared: Daemon, upstream: Upstream) -> None:
    """One user's crashing request does not close a service for all."""
    upstream.answer = lambda call: b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    assert [shared.get().status for _ in range(8)] == [500] * 8


def test_stage_11_bad_gateway(shared: Daemon, upstream: Upstream) -> None:
    """An upstream that refuses connections, or answers rubbish, is 502."""
    refused(shared.get("/dead/x"), 502, "Bad gateway")
    upstream.answer = lambda call: call.sock.sendall(b"SSH-2.0\r\n\r\n")
    refused(shared.get(), 502, "Bad gateway")


def test_stage_11_timeout(tmp_path: Path, upstream: Upstream) -> None:
    """An upstream that does not answer is 504 after response_timeout."""
    cut = threading.Event()

    def hang(call: Call) -> None:
        with contextlib.suppress(ConnectionResetError):
            assert call.sock.recv(1) == b""
        cut.set()

    upstream.answer = hang
    with gateway(tmp_path, upstream, rest="[upstream]\nresponse_timeout = 300ms") as daemon:
        refused(daemon.get(), 504, "Gateway timeout")
        assert daemon.rows(1)[0]["reason"] == "upstream_timeout"
        assert cut.wait(WAIT)  # and its connection was closed


def seen(upstream: Upstream) -> Call:
    """The last request the upstream got."""
    return upstream.calls[-1]


def test_to_the_upstream(shared: Daemon, upstream: Upstream) -> None:
    """The upstream gets prefix-less path, untouched query, identity, and no token."""
    answer = shared.get("/api/v1/users/a%20b/c?x=%2F..%2f&y=//", "X-Other: kept", "Accept: a", tok=token("alice", role=None))
    call = seen(upstream)
    assert (call.method, call.target) == (b"GET", b"/a%20b/c?x=%2F..%2f&y=//")
    assert call.values("X-User-ID") == ["alice"]
    assert call.values("X-User-Role") == ["user"]
    assert call.values("X-Request-ID") == [answer["X-Request-ID"]]
    assert call.values("Authorization") == []
    assert call.values("X-Other") == ["kept"]
    assert call.values("Host") == [f"127.0.0.1:{upstream.port}"]
    assert call.values("X-Forwarded-For") == ["127.0.0.1"]
    assert call.values("X-Forwarded-Proto") == ["http"]
    assert call.values("X-Forwarded-Host") == ["gateway.test"]
    assert call.values("Via") == ["1.1 gateway"]


def test_empty_rest_is_a_slash(shared: Daemon, upstream: Upstream) -> None:
    """A request for the prefix alone asks the upstream for its root."""
    shared.get("/api/v1/users?q=1")
    assert seen(upstream).target == b"/?q=1"


def test_upstream_path_and_kept_host(shared: Daemon, upstream: Upstream) -> None:
    """An upstream URL's path is put before the rest; Host is kept where asked for."""
    shared.get("/based/x?y")
    assert seen(upstream).target == b"/base/path/x?y"
    assert seen(upstream).values("Host") == ["gateway.test"]
    shared.get("/based")
    assert seen(upstream).target == b"/base/path/"


def test_to_the_client(shared: Daemon, upstream: Upstream) -> None:
    """The answer is the upstream's, with the gateway's own word on its own fields."""
    upstream.answer = lambda call: (
        b"HTTP/1.1 201 Made Up\r\nContent-Length: 3\r\nX-Request-ID: theirs\r\nX-RateLimit-Limit: 9\r\n"
        b"Access-Control-Allow-Origin: evil\r\nX-Thing: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nKeep-Alive: timeout=5\r\n\r\nabc"
    )
    answer = shared.get()
    assert (answer.status, answer.body) == (201, b"abc")
    assert answer.values("X-Request-ID") == [seen(upstream).values("X-Request-ID")[0]]
    assert answer.values("X-RateLimit-Limit") == ["100000"]
    assert answer.values("Access-Control-Allow-Origin") == ["*"]
    assert answer.values("Set-Cookie") == ["a", "b"]
    assert answer.values("Keep-Alive") == []
    assert re.fullmatch(r"\d+ms", answer["X-Response-Time"])
    assert int(answer["X-RateLimit-Remaining"]) < 100000
    assert int(answer["X-RateLimit-Reset"]) > time.time()


def test_role_and_name_are_encoded(shared: Daemon, upstream: Upstream) -> None:
    """A name that is not visible ASCII travels percent-encoded, so no two are alike."""
    for name, sent in (("Zoë Ä", "Zo%C3%AB%20%C3%84"), ("a,b", "a%2Cb"), ("a%2Cb", "a%252Cb")):
        assert shared.get(tok=token(name)).status == 200
        assert seen(upstream).values("X-User-ID") == [sent]


def test_audit_rows(tmp_path: Path, upstream: Upstream) -> None:
    """One row for every request from stage 2 on, refusals included, with the original's columns."""
    with gateway(tmp_path, upstream) as daemon:
        good = daemon.get("/api/v1/users/7?secret=1", "User-Agent: " + "x" * 300)
        daemon.get(tok=None)
        daemon.get("/nowhere")
        daemon.get("/api/v1/users/../x")
        daemon.get("/health", tok=None)
        daemon.ask(b"GET / HTTP/9.9\r\n\r\n")
        rows = daemon.rows(5)
    assert [(r["user_id"], r["status"], r["reason"]) for r in rows] == [
        ("alice", 200, ""), ("anonymous", 401, "no_token"), ("alice", 404, "route"),
        ("anonymous", 400, "path"), ("anonymous", 200, ""),
    ]  # fmt: skip
    first = rows[0]
    assert (first["method"], first["path"], first["ip"]) == ("GET", "/api/v1/users/7", "127.0.0.1")
    assert first["user_agent"] == "x" * 200
    assert first["request_id"] == good["X-Request-ID"]
    assert (first["route"], first["bytes_out"]) == ("/api/v1/users", 2)
    assert first["upstream"] == f"http://127.0.0.1:{upstream.port}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["timestamp"])
    assert isinstance(first["duration_ms"], int)
    assert rows[1]["user_agent"] == "unknown"


def test_cors_off_and_origin_list(tmp_path: Path, upstream: Upstream) -> None:
    """With a list the matching origin is echoed; where CORS is off OPTIONS is any request."""
    routes = f"[route /plain]\nupstream = http://127.0.0.1:{upstream.port}\ncors.enabled = no"
    rest = "[cors]\nallow_origin = https://a.example, https://b.example"
    with gateway(tmp_path, upstream, rest=rest, routes=routes) as daemon:
        answer = daemon.get("/api/v1/users", "Origin: https://b.example")
        assert (answer["Access-Control-Allow-Origin"], answer["Vary"]) == ("https://b.example", "Origin")
        answer = daemon.get("/api/v1/users", "Origin: https://evil.example")
        assert answer.values("Access-Control-Allow-Origin") == []
        assert answer["Vary"] == "Origin"
        assert daemon.get("/plain", method="OPTIONS", tok=None).status == 401
        upstream.answer = lambda call: b"HTTP/1.1 204 X\r\nAccess-Control-Allow-Origin: theirs\r\n\r\n"
        answer = daemon.get("/plain", method="OPTIONS")
        assert (answer.status, answer["Access-Control-Allow-Origin"]) == (204, "theirs")
