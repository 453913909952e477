"""Advisories of others as requirements here, on real sockets; numbers are security.md's rows."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest

from tests.system.tools import SECRET, WAIT, Client, Daemon, Upstream, gateway, request, token
from tests.system.waiting import until


def part(value: object) -> str:
    """A token's part."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("alg", ["none", "nOnE", "", "HS512", "RS256", None])
def test_row_1_algorithm(shared: Daemon, upstream: Upstream, alg: str | None) -> None:
    """Row 1 (CVE-2026-39999): a token never chooses its algorithm."""
    header = {"typ": "JWT"} if alg is None else {"alg": alg}
    claims = token().split(".")[1]
    for signature in ("", "AAAA"):
        answer = shared.get(tok=f"{part(header)}.{claims}.{signature}")
        assert (answer.status, answer.error) == (401, "Invalid token signature")
    assert upstream.calls == []


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}, {"crit": []}])
def test_row_2_crit(shared: Daemon, header: dict[str, object]) -> None:
    """Row 2 (GHSA-752w-5fwx-jx9f): any critical header is refused, rightly signed or not."""
    import hashlib
    import hmac

    signed = f"{part({'alg': 'HS256', **header})}.{token().split('.')[1]}"
    mac = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    tok = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    answer = shared.get(tok=tok)
    assert (answer.status, answer.error) == (401, "Token validation failed")


IDENTITY = ["X-User-ID", "x_user_id", "X.User.Id", "X-USER_ROLE", "x-user.role", "X_Request.ID", "X-Request-ID"]


def test_row_4_identity_in_every_spelling(shared: Daemon, upstream: Upstream) -> None:
    """Row 4 (CVE-2025-64484, CVE-2026-44087): no spelling of our fields gets through."""
    fields = [f"{name}: root" for name in IDENTITY for _ in range(2)]
    for tok in (token("alice"), token("bob", role=None)):
        assert shared.get("/api/v1/users/1", *fields, tok=tok).status == 200
        call = upstream.calls[-1]
        names = [line.partition(b":")[0].lower().translate(bytes.maketrans(b"_.", b"--")) for line in call.lines]
        for name in (b"x-user-id", b"x-user-role", b"x-request-id"):
            assert names.count(name) == 1
        assert not any(b"root" in line for line in call.lines)


def test_row_5_connection_names_our_fields(shared: Daemon, upstream: Upstream) -> None:
    """Row 5 (CVE-2024-45410): a client's Connection field can't take our fields away."""
    named = "close, X-User-ID, X-User-Role, X-Forwarded-For, X-Request-ID, Authorization, X-Mine, Via"
    assert shared.get("/api/v1/users/1", f"Connection: {named}", "X-Mine: 1", "X-Kept: 1").status == 200
    call = upstream.calls[-1]
    assert call.values("X-User-ID") == ["alice"]
    assert call.values("X-User-Role") == ["admin"]
    assert call.values("X-Forwarded-For") == ["127.0.0.1"]
    assert len(call.values("X-Request-ID")) == 1
    assert call.values("Authorization") == call.values("X-Mine") == call.values("Connection") == []
    assert call.values("X-Kept") == ["1"]


def test_hop_by_hop_fields(shared: Daemon, upstream: Upstream) -> None:
    """Fields that mean one connection stay there; h2c is never passed on (row 10)."""
    fields = ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings",
              "TE: trailers", "Keep-Alive: timeout=5", "Proxy-Authorization: Basic eA==", "Proxy-Connection: x"]  # fmt: skip
    assert shared.get("/api/v1/users/1", *fields).status == 200
    for name in ("Upgrade", "HTTP2-Settings", "TE", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection"):
        assert upstream.calls[-1].values(name) == []


@pytest.mark.parametrize(
    "field",
    ["X-Forwarded-Uri: /api/v1/users/1", "X-Original-URL: /api/v1/users/1", "X-Rewrite-URL: /api/v1/users/1",
     "X-HTTP-Method-Override: GET", "User-Agent: kube-probe/1.0", "User-Agent: GoogleHC/1.0", "X-Forwarded-Prefix: /x"],
)  # fmt: skip
def test_row_6_only_the_request_line_decides(shared: Daemon, upstream: Upstream, field: str) -> None:
    """Row 6 (CVE-2026-40575): no field changes the route or the verdict."""
    assert shared.get("/nowhere", field).status == 404
    assert shared.get("/nowhere?/api/v1/users/1", field).status == 404
    assert shared.get("/strict/x", field, method="DELETE").status == 405
    assert shared.get("/api/v1/users/1", field, tok=None).status == 401
    assert shared.get("/strict/x", field, tok=token(role="guest")).status == 403
    assert upstream.calls == []


PATHS = [
    "/api/v1/users/../orders", "/api/v1/users/%2e%2e/orders", "/api/v1/users/.%2E/x", "/api/v1/users//x", "//api/v1/users",
    "/api/v1/users/%2Fx", "/api/v1/users/%5Cx", "/api/v1/users/./x", "/api/v1/users/..", "/api/v1/users/.", "/../x",
    "/api/v1/users/%00", "/api/v1/users/%0d%0aX:1", "/api/v1/users/%252e%252e/x", "/api/v1/users/%25252e/x", "/api/v1/users/%252fx",
    "/api/v1/users/..;/x", "/api/v1/users/.;a/x", "/%61pi/v1/users/x", "/api/v1/users/%c0%ae%c0%ae/x", "/api/v1/users/%7f",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_row_8_paths(shared: Daemon, upstream: Upstream, path: str) -> None:
    """Row 8 (CVE-2021-29492, CVE-2026-26205): a path with two meanings is 400, and on record."""
    answer = shared.get(path, tok=token("pathfinder"))
    assert (answer.status, answer.error, answer["Connection"]) == (400, "Bad request", "close")
    assert upstream.log == b""
    assert shared.rows(1, "reason = 'path'")[-1]["path"].startswith("/")


def test_row_8_audit_and_upstream_agree(shared: Daemon, upstream: Upstream) -> None:
    """Row 8: the audit's path less the prefix is what the upstream saw, byte for byte."""
    for rest in ("/a", "/a%20b", "/%25", "/100%25x", "/a;b=c", "/.../x", "/~x", "/%C3%A9", "/a,b", "/"):
        tok = token("byte-" + rest.encode().hex())
        answer = shared.get("/api/v1/users" + rest + "?q=%2e%2e", tok=tok)
        assert answer.status == 200
        row = shared.rows(1, f"request_id = '{answer['X-Request-ID']}'")[0]
        assert row["path"] == "/api/v1/users" + rest
        assert upstream.calls[-1].target.decode() == rest + "?q=%2e%2e"


def test_row_12_forged_addresses(shared: Daemon, upstream: Upstream) -> None:
    """Row 12 (CVE-2022-24112): an untrusted peer's headers change neither audit nor upstream."""
    forged = ["X-Forwarded-For: 10.9.9.9", "Forwarded: for=10.9.9.9", "X-Real-IP: 10.9.9.9", "CF-Connecting-IP: 10.9.9.9",
              "True-Client-IP: 10.9.9.9", "x_forwarded_for: 10.9.9.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil"]  # fmt: skip
    answer = shared.get("/api/v1/users/1", *forged)
    row = shared.rows(1, f"request_id = '{answer['X-Request-ID']}'")[0]
    assert row["ip"] == "127.0.0.1"
    assert b"10.9.9.9" not in bytes(upstream.log)
    assert upstream.calls[-1].values("X-Forwarded-Proto") == ["http"]
    assert upstream.calls[-1].values("X-Forwarded-Host") == ["gateway.test"]


def test_row_12_trusted_proxy(tmp_path: Path, upstream: Upstream) -> None:
    """Row 12: a trusted proxy's list is walked from the right, through trusted hops only."""
    ini = "trusted_proxies = 127.0.0.0/8, 10.0.0.0/8"
    with gateway(tmp_path, upstream, gateway=ini, rest="[ip]\nallow = 203.0.113.0/24") as daemon:
        good = "X-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.1.2.3"
        answer = daemon.get("/api/v1/users/1", good, "X-Forwarded-Proto: https")
        assert answer.status == 200
        assert daemon.rows(1)[0]["ip"] == "203.0.113.7"
        call = upstream.calls[-1]
        assert call.values("X-Forwarded-For") == ["198.51.100.1, 203.0.113.7, 10.1.2.3, 127.0.0.1"]
        assert call.values("X-Forwarded-Proto") == ["https"]
        assert daemon.get("/api/v1/users/1", "X-Forwarded-For: 203.0.113.7, 198.51.100.1").status == 403
        assert daemon.get("/api/v1/users/1", "X-Forwarded-For: rubbish").status == 400
        assert daemon.get("/api/v1/users/1").status == 403


def test_row_13_no_http2(shared: Daemon) -> None:
    """Row 13 (CVE-2023-44487): while HTTP/2 is not offered its preface is 505."""
    assert shared.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505


def served(daemon: Daemon, count: int) -> list[Client]:
    """So many connections, each answered once and open."""
    clients = [daemon.connect() for _ in range(count)]
    for client in clients:
        client.send(request("/api/v1/users/1"))
        assert client.answer().status == 200
    return clients


def test_cap_per_address(tmp_path: Path, upstream: Upstream) -> None:
    """Row 14: beyond max_connections_per_ip further connections are closed, then there is room again."""
    with gateway(tmp_path, upstream, gateway="max_connections_per_ip = 3") as daemon:
        clients = served(daemon, 3)
        with daemon.connect() as fourth:
            fourth.send(request("/api/v1/users/1"))
            assert fourth.rest() == b""
        clients[0].sock.close()

        def room() -> bool:
            with daemon.connect() as again:
                again.send(request("/api/v1/users/1"))
                return again.more()

        until(room, "no room again")
        for client in clients[1:]:
            client.sock.close()


def test_max_connections(tmp_path: Path, upstream: Upstream) -> None:
    """At max_connections the listener rests; who waits is served when somebody leaves."""
    with gateway(tmp_path, upstream, gateway="max_connections = 4") as daemon:
        clients = served(daemon, 4)
        with daemon.connect() as waiting:
            waiting.send(request("/api/v1/users/1"))
            waiting.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.sock.recv(1)
            waiting.sock.settimeout(WAIT)
            clients[0].sock.close()
            assert waiting.answer().status == 200
        for client in clients[1:]:
            client.sock.close()


NASTY = ["a'b\"; DROP TABLE audit_logs;--", "x\x7f".rstrip("\x7f") + "é" * 20, "y" * 8000, "<script>", "\xff\xfe\x80", "a\tb"]


@pytest.mark.parametrize("text", NASTY)
def test_row_15_audit_injection(shared: Daemon, upstream: Upstream, text: str) -> None:
    """Row 15 (CVE-2025-25294): whatever a client says is exactly one row that reads back."""
    answer = shared.get("/api/v1/users/1", f"User-Agent: {text}")
    rows = shared.rows(1, f"request_id = '{answer['X-Request-ID']}'")
    assert len(rows) == 1
    raw = text.encode("latin-1")
    assert rows[0]["user_agent"] == raw.decode("utf-8", "backslashreplace")[:200]


def test_row_15_claims_in_the_audit(shared: Daemon, upstream: Upstream) -> None:
    """Row 15: a user's name with quotes and escapes is one row with that name."""
    name = "o'brien\"; -- \\n%00é"
    answer = shared.get(tok=token(name))
    assert answer.status == 200
    assert shared.rows(1, f"request_id = '{answer['X-Request-ID']}'")[0]["user_id"] == name


def test_twisted_4898_ten_gibibytes(shared: Daemon, upstream: Upstream) -> None:
    """Twisted issue 4898: 10 GiB declared or chunked is 413 at once; memory and disk stay flat."""
    before = shared.rss()
    with shared.connect() as client:
        client.send(request("/api/v1/users/", f"Content-Length: {10 << 30}", method="POST"))
        assert client.answer().status == 413
    with shared.connect() as client:
        client.send(request("/api/v1/users/", "Transfer-Encoding: chunked", method="POST"))
        client.send(b"280000000\r\n")
        block = b"x" * (1 << 20)
        sender = threading.Thread(target=lambda: [client.send(block) for _ in range(64)])
        sender.start()
        assert client.answer().status == 413
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert shared.rss() - before < 20 << 20


def test_the_secret_never_shows(tmp_path: Path, upstream: Upstream) -> None:
    """Neither the secret nor a token is in the log, an answer or the audit database."""
    with gateway(tmp_path, upstream) as daemon:
        tok = token()
        answers = [daemon.get(tok=tok), daemon.get(tok=tok[:-3] + "abc"), daemon.get("/nowhere", tok=tok)]
        daemon.rows(3)
    said = b"".join(answer.body + "".join(answer.lines).encode() for answer in answers)
    said += daemon.log.read_bytes()
    for file in tmp_path.glob("audit*"):
        said += file.read_bytes()
    for secret in (SECRET.encode(), tok.encode(), tok.split(".")[2].encode()):
        assert secret not in said
