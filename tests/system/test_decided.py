"""What the contract decides where its table leaves room, on real sockets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.system.test_contract import refused
from tests.system.tools import Daemon, Upstream, gateway, request, token


def test_each_refusal_is_on_record(tmp_path: Path, upstream: Upstream) -> None:
    """The original never recorded refusals; here each has its row, with its user where one is known."""
    up = f"upstream = http://127.0.0.1:{upstream.port}"
    routes = (
        f"[route /r]\n{up}\nrequire.role = nobody\nmethods = GET\n[route /l]\n{up}\nratelimit.limit = 1\n"
        f"[route /s]\n{up}\nbody.max_size = 1\n[route /i]\n{up}\nip.deny = 0.0.0.0/0\n"
        "[route /d]\nupstream = http://127.0.0.1:1\nbreaker.failures = 1\n"
    )
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        daemon.get("/r")
        daemon.get("/r", method="PUT")
        daemon.get("/l")
        daemon.get("/l")
        daemon.ask(request("/s", method="POST", body=b"ab"))
        daemon.get("/i")
        daemon.get("/d")
        daemon.get("/d")
        daemon.get("/r", f"Authorization: Bearer {token()}")
        daemon.get("/r", method="OPTIONS", tok=None)
        daemon.get("/r", tok=token()[:-4] + "AAAA")
        daemon.get("/r", tok=token(exp=1))
        daemon.get("/r", tok=token(nbf=time.time() + 900))
        rows = daemon.rows(13)
    assert [(row["status"], row["reason"], row["user_id"]) for row in rows] == [
        (403, "policy", "alice"), (405, "method", "alice"), (200, "", "alice"), (429, "limit", "alice"),
        (413, "body_size", "alice"), (403, "address", "anonymous"), (502, "upstream", "alice"),
        (503, "circuit", "alice"), (400, "authorization_repeated", "anonymous"), (200, "", "anonymous"),
        (401, "signature", "anonymous"), (401, "expired", "anonymous"), (401, "token", "anonymous"),
    ]  # fmt: skip
    assert len({row["request_id"] for row in rows}) == 13


def test_issuer_and_audience(tmp_path: Path, upstream: Upstream) -> None:
    """Issuer and audience are asked for when configured, and by equality (row 2)."""
    with gateway(tmp_path, upstream, jwt="issuer = https://id.example\naudience = api") as daemon:
        good = {"iss": "https://id.example", "aud": ["web", "api"]}
        assert daemon.get(tok=token(**good)).status == 200
        for wrong in ({"iss": "https://id.example.evil"}, {"iss": None}, {"aud": "apis"}, {"aud": None}):
            refused(daemon.get(tok=token(**{**good, **wrong})), 401, "Token validation failed")


def test_tokens_between_the_lines(shared: Daemon, upstream: Upstream) -> None:
    """An unasked audience and an iat in the future pass; the signature is judged before the expiry."""
    assert shared.get(tok=token(aud="whoever", iat=time.time() + 900)).status == 200
    refused(shared.get(tok=token(exp=1)[:-4] + "AAAA"), 401, "Invalid token signature")
    refused(shared.get(tok=token(exp=True)), 401, "Token validation failed")
    refused(shared.get(tok=token(exp=1, sub=None)), 401, "Token expired")
    answer = shared.get(tok=token(exp=1))
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]
    assert "error=" not in shared.get(tok=None)["WWW-Authenticate"]


def test_expiry_is_optional_where_it_says_so(tmp_path: Path, upstream: Upstream) -> None:
    """Tokens without exp pass with require_exp = no only."""
    with gateway(tmp_path, upstream, jwt="require_exp = no\ndefault_role = guest\nrole_claim = rank") as daemon:
        assert daemon.get(tok=token(exp=None)).status == 200
        assert upstream.calls[-1].values("X-User-Role") == ["guest"]
        assert daemon.get(tok=token(rank="chief")).status == 200
        assert upstream.calls[-1].values("X-User-Role") == ["chief"]


def test_another_client_address_header(tmp_path: Path, upstream: Upstream) -> None:
    """The one configured header names the client of a trusted peer; all others are dropped."""
    ini = "trusted_proxies = 127.0.0.1\nclient_address_header = CF-Connecting-IP"
    others = ["X-Forwarded-For: 10.6.6.6", "Forwarded: for=10.6.6.6", "X-Real-IP: 10.6.6.6", "True-Client-IP: 10.6.6.6"]
    with gateway(tmp_path, upstream, gateway=ini) as daemon:
        assert daemon.get("/api/v1/users/1", "CF-Connecting-IP: 203.0.113.7", *others).status == 200
        assert daemon.rows(1)[0]["ip"] == "203.0.113.7"
        for name in ("Forwarded", "X-Real-IP", "True-Client-IP"):
            assert upstream.calls[-1].values(name) == []
        refused(daemon.get("/api/v1/users/1", "CF-Connecting-IP: 203.0.113.7", "CF-Connecting-IP: 203.0.113.8"), 400, "Bad request")


def test_peer_without_a_word(tmp_path: Path, upstream: Upstream) -> None:
    """A hidden client of a trusted proxy is called unknown, and never fits an allow list."""
    routes = f"[route /fenced]\nupstream = http://127.0.0.1:{upstream.port}\nip.allow = 0.0.0.0/0"
    ini = "trusted_proxies = 127.0.0.1\nclient_address_header = Forwarded"
    with gateway(tmp_path, upstream, gateway=ini, routes=routes) as daemon:
        assert daemon.get("/api/v1/users/1", "Forwarded: for=unknown").status == 200
        refused(daemon.get("/fenced/1", "Forwarded: for=_hidden"), 403, "IP address not allowed")
        assert [row["ip"] for row in daemon.rows(2)] == ["unknown", "unknown"]


def test_exposed_fields(shared: Daemon, upstream: Upstream) -> None:
    """A script may read our own fields, on answers and on refusals."""
    ours = "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID"
    upstream.answer = lambda call: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for answer in (shared.get(), shared.get("/nowhere"), shared.get(tok=None)):
        assert answer.values("Access-Control-Expose-Headers") == [ours]


def test_via_is_added_to(shared: Daemon, upstream: Upstream) -> None:
    """The proxies before us stay on record for the upstream, we behind them (RFC 9110 section 7.6.3)."""
    shared.get("/api/v1/users/1", "Via: 1.0 before")
    assert upstream.calls[-1].values("Via") == ["1.0 before", "1.1 gateway"]


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/3.1", b"HTTP/0.9", b"HTTP/1.9"])
def test_other_versions(shared: Daemon, version: bytes) -> None:
    """Any version but 1.0 and 1.1 is 505."""
    with shared.connect() as client:
        client.send(b"GET / " + version + b"\r\nHost: a\r\n\r\n")
        refused(client.answer(), 505, "HTTP version not supported")
        assert client.rest() == b""


def test_absolute_form_of_another(shared: Daemon, upstream: Upstream) -> None:
    """An absolute target passes when its authority is the Host, and is judged as any path; else 400."""
    for target in ("http://other.test/api/v1/users/1", "http://gateway.test/api/v1/users/../x", "ftp://gateway.test/x"):
        raw = request("/").replace(b"GET / ", f"GET {target} ".encode())
        refused(shared.ask(raw), 400, "Bad request")
    assert upstream.log == b""


def test_limits_per_key(tmp_path: Path, upstream: Upstream) -> None:
    """When there is no room for another counter a new user gets 429, a known one goes on."""
    with gateway(tmp_path, upstream, ratelimit="keys = 2") as daemon:
        assert [daemon.get(tok=token(name)).status for name in ("a", "b")] == [200, 200]
        refused(daemon.get(tok=token("c")), 429, "Rate limit exceeded")
        assert daemon.get(tok=token("a")).status == 200
        assert daemon.rows(4)[2]["reason"] == "limit_keys"


@pytest.mark.parametrize(
    ("path", "fields", "tok", "status"),
    [
        ("/strict/x", ["Content-Length: 3"], token(role="guest"), 403),
        ("/small/x", ["Content-Length: 2000"], token(), 413),
        ("/limited/x", ["Content-Length: 3"], token("expects"), 429),
        ("/nowhere", ["Transfer-Encoding: chunked"], token(), 404),
        ("/dead/x", ["Content-Length: 3"], token(), 502),
    ],
)
def test_refused_before_the_body(shared: Daemon, upstream: Upstream, path: str, fields: list[str], tok: str, status: int) -> None:
    """Twisted issue 4688: a client that waits for 100 Continue is refused without sending its body."""
    if status == 429:
        for _ in range(3):
            assert shared.get(path, tok=tok).status == 200
        upstream.log.clear()
    with shared.connect() as client:
        client.send(request(path, "Expect: 100-continue", *fields, tok=tok, method="POST"))
        answer = client.answer()
        assert (answer.status, answer["Connection"]) == (status, "close")
        assert client.rest() == b""
    assert upstream.log == b""


def test_row_12_forged_addresses_move_no_verdict(tmp_path: Path, upstream: Upstream) -> None:
    """Row 12 (CVE-2022-24112): an untrusted peer's headers change neither allow list nor the limit's key."""
    up = f"upstream = http://127.0.0.1:{upstream.port}"
    routes = f"[route /fenced]\n{up}\nip.allow = 203.0.113.0/24\n[route /counted]\n{up}\nratelimit.key = ip\nratelimit.limit = 1"
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        for name in ("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP"):
            refused(daemon.get("/fenced/x", f"{name}: 203.0.113.7"), 403, "IP address not allowed")
        assert [daemon.get("/counted/x", f"X-Forwarded-For: 10.0.0.{n}").status for n in range(3)] == [200, 429, 429]
