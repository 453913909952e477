"""API keys, with the real daemon and the real tool: who comes in, what the upstream sees, how keys come and go."""

from __future__ import annotations

import io
import json
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from gateway.admission.apikeys import digest_of, new_key
from gateway.cli import main
from tests.stores.valkey import Valkey
from tests.system.tools import SECRET, WAIT, Answer, Daemon, Upstream, gateway, request, token

REST = """
[apikeys]
file = keys.txt
header = X-Gateway-Key
[plan gold]
limit = 2
"""
ROUTES = """
[route /keys]
upstream = http://127.0.0.1:{upstream}
auth = apikey
[route /tokens]
upstream = http://127.0.0.1:{upstream}
auth = jwt
[route /writers]
upstream = http://127.0.0.1:{upstream}
require.scope = orders:write
[route /told]
upstream = http://127.0.0.1:{upstream}
headers.claim.X-Key-Name = key
headers.claim.X-Scopes = scope
[route /open]
upstream = http://127.0.0.1:{upstream}
public = yes
"""


@pytest.fixture
def daemon(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A gateway with API keys."""
    monkeypatch.setenv("JWT_SECRET", "0123456789abcdef0123456789abcdef-test")
    with gateway(tmp_path, upstream, rest=REST, ratelimit="plan_claim = plan",
                 routes=ROUTES.format(upstream=upstream.port)) as found:  # fmt: skip
        yield found


def tool(daemon: Daemon, *arguments: str) -> tuple[int, str]:
    """C{gateway key …}: its status and all it prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        status = main(["key", *arguments, "--config", str(daemon.ini)])
    return status, out.getvalue().strip()


def add(daemon: Daemon, *arguments: str) -> str:
    """A new key that the daemon knows already."""
    status, raw = tool(daemon, "add", *arguments)
    assert status == 0, raw
    until(daemon, raw, 200)
    return raw


def ask(daemon: Daemon, raw: str, *fields: str, path: str = "/api/v1/users/7") -> Answer:
    """A request with a key alone."""
    return daemon.get(path, f"X-Gateway-Key: {raw}", *fields, tok=None)


def until(daemon: Daemon, raw: str, status: int) -> None:
    """Wait until the daemon has read the file: it looks once a second."""
    deadline = time.monotonic() + WAIT
    while ask(daemon, raw, path="/none").status != {200: 404}.get(status, status):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.05)


def test_a_key_from_its_making_to_its_end(daemon: Daemon, upstream: Upstream) -> None:
    """A key is printed once, lets its user in within a second, is listed without itself, and is refused after revoke."""
    raw = add(daemon, "ci", "--user", "bot", "--role", "deployer", "--scope", "orders:read orders:write")
    assert re.fullmatch("gwk_[0-9A-Za-z]{49}", raw)
    file = daemon.folder / "keys.txt"
    assert raw not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    answer = ask(daemon, raw)
    assert answer.status == 200
    call = upstream.calls[-1]
    assert (call.values("X-User-ID"), call.values("X-User-Role")) == (["bot"], ["deployer"])
    assert raw.encode() not in upstream.log
    assert answer["X-RateLimit-Limit"] == "100000"
    status, listed = tool(daemon, "list", "--json")
    assert (status, json.loads(listed)["name"], json.loads(listed)["user"]) == (0, "ci", "bot")
    assert raw not in listed
    assert tool(daemon, "revoke", "ci") == (0, "")
    until(daemon, raw, 401)
    refused = ask(daemon, raw)
    assert (refused.status, refused.error) == (401, "Token validation failed")
    assert refused["WWW-Authenticate"] == 'ApiKey realm="gateway"'
    row = daemon.rows(1, "user_id = 'bot'")[0]
    assert (row["status"] in (200, 404), row["detail"]) == (True, "key:ci")
    assert raw.encode() not in (daemon.folder / "audit.sqlite3").read_bytes()
    assert raw not in daemon.log.read_text()


def test_policies_and_plans(daemon: Daemon) -> None:
    """Scopes and the plan of a key hold as a token's do."""
    reader = add(daemon, "reader", "--user", "r", "--scope", "orders:read")
    writer = add(daemon, "writer", "--user", "w", "--scope", "orders:write")
    assert ask(daemon, reader, path="/writers").error == "Forbidden"
    assert ask(daemon, writer, path="/writers").status == 200
    golden = tool(daemon, "add", "golden", "--user", "g", "--plan", "gold")[1]
    until(daemon, golden, 429)
    answer = ask(daemon, golden)
    assert (answer.status, answer["X-RateLimit-Limit"]) == (429, "2")
    assert json.loads(answer.body)["limit"] == "gold 2/60s"


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_limits_of_its_own(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    """A key's own windows hold in place of the common limit, for all its user's keys that have the same; a route's own limit goes before."""
    monkeypatch.setenv("JWT_SECRET", SECRET)
    valkey = Valkey() if store == "redis" else None
    asked = f"store = {valkey.url}\nstore_timeout = 10s" if valkey is not None else ""
    routes = f"[route /own]\nupstream = http://127.0.0.1:{upstream.port}\nratelimit.limit = 1000\n"
    try:
        with gateway(tmp_path, upstream, rest=REST, ratelimit=f"plan_claim = plan\n{asked}", routes=routes) as daemon:
            raws = [tool(daemon, "add", name, "--user", "bot", "--limit", "3/1h, 5/1d")[1] for name in ("a", "b")]
            other = tool(daemon, "add", "c", "--user", "bot", "--limit", "4/1h")[1]
            free = add(daemon, "d", "--user", "bot")
            daemon.logged("4 read from")
            assert [ask(daemon, raw).status for raw in (raws[0], raws[1], raws[0])] == [200] * 3
            refused = ask(daemon, raws[1])
            assert (refused.status, json.loads(refused.body)["limit"]) == (429, "key 3/1h")
            assert 3000 < int(refused["Retry-After"]) <= 3600 * 17 / 16 + 1
            assert daemon.rows(1, "reason = 'limit'")[0]["detail"].startswith("key")
            assert [ask(daemon, raw)["X-RateLimit-Limit"] for raw in (other, free)] == ["4", "100000"]
            assert ask(daemon, raws[0], path="/own/1")["X-RateLimit-Limit"] == "1000"
            # What has been counted goes on across a reload, and another file of keys.
            assert "reloaded" in daemon.reload(daemon.ini.read_text().replace("edge = test-edge", "edge = other"))
            assert ask(daemon, raws[0]).status == 429
            tool(daemon, "revoke", "b")
            until(daemon, raws[1], 401)
            assert ask(daemon, raws[0]).status == 429
            status, listed = tool(daemon, "list", "--json")
            assert (status, json.loads(listed.splitlines()[0])["limits"]) == (0, "3/1h,5/1d")
            assert "limits 3/1h,5/1d" in tool(daemon, "list")[1]
            if store == "redis":  # another process can't look into one's memory
                found = subprocess.run(
                    [sys.executable, "-m", "gateway.cli", "explain", "--config", str(daemon.ini), "GET", "/api/v1/users/7",
                     "--header", f"X-Gateway-Key: {raws[0]}"], capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert "key 3/1h is used up" in found.stdout
                assert "file = keys.txt" in found.stdout.partition("RateLimited")[2].partition("Routed")[0]
    finally:
        if valkey is not None:
            valkey.stop()


def test_two_credentials(daemon: Daemon, upstream: Upstream) -> None:
    """A key beside a token, a good or a bad one, and two keys are 400; nothing is forwarded."""
    raw = add(daemon, "ci", "--user", "bot")
    before = len(upstream.calls)
    field = f"X-Gateway-Key: {raw}"
    daemon.get()  # the token is known from here on
    assert len(upstream.calls) == before + 1
    for fields, tok in (((field,), ""), ((field,), "x"), ((field, field), None), (("x-gateway-key: y",), "")):
        answer = daemon.get("/api/v1/users/7", *fields, tok=tok)
        assert (answer.status, answer.error) == (400, "Bad request")
    assert len(upstream.calls) == before + 1
    assert {row["reason"] for row in daemon.rows(4, "status = 400")} == {"credentials"}


@pytest.mark.parametrize("name", ["X_Gateway_Key", "x.gateway.key", "X-Gateway_KEY"])
def test_other_spellings(daemon: Daemon, upstream: Upstream, name: str) -> None:
    """A field that a service could take for the key's lets nobody in, and is not forwarded."""
    raw = add(daemon, "ci", "--user", "bot")
    assert daemon.get("/api/v1/users/7", f"{name}: {raw}", tok=None).error == "Missing or invalid Authorization header"
    assert daemon.get("/api/v1/users/7", f"{name}: {raw}").status == 200
    assert raw.encode() not in upstream.log


def test_not_in_trailers(daemon: Daemon, upstream: Upstream) -> None:
    """Nor does a key, or a proof, travel behind a body."""
    body = b"1\r\nx\r\n0\r\nX-Gateway-Key: hunter2\r\nDPoP: hunter2\r\nX-Plain: p\r\n\r\n"
    raw = request("/api/v1/users/7", "Transfer-Encoding: chunked", method="POST") + body
    assert daemon.ask(raw).status == 200
    assert b"hunter2" not in upstream.log
    assert b"X-Plain: p" in upstream.log


def test_what_a_route_takes(daemon: Daemon) -> None:
    """A route that names its credentials refuses all others, and says in its challenge what it takes."""
    raw = add(daemon, "ci", "--user", "bot")
    assert ask(daemon, raw, path="/keys").status == 200
    assert ask(daemon, raw, path="/tokens").error == "Missing or invalid Authorization header"
    assert daemon.get("/tokens").status == daemon.get("/tokens").status == 200
    for _ in range(2):
        refused = daemon.get("/keys")
        assert (refused.status, refused.values("WWW-Authenticate")) == (401, ['ApiKey realm="gateway"'])
    nothing = daemon.get(tok=None)
    assert nothing.error == "Missing or invalid Authorization header"
    assert nothing.values("WWW-Authenticate") == ['Bearer realm="gateway"', 'ApiKey realm="gateway"']


def test_public_routes_and_claims(daemon: Daemon, upstream: Upstream) -> None:
    """A public route looks at no key, and forwards none; a route's claim fields are filled from a key's, too."""
    raw = add(daemon, "ci", "--user", "bot", "--scope", "a b")
    for path, fields, user in (("/open", (f"X-Gateway-Key: {raw}",), []), ("/open", ("X-Gateway-Key: x", "Authorization: Bearer x"), [])):
        assert daemon.get(path, *fields, tok=None).status == 200
        assert upstream.calls[-1].values("X-User-ID") == user
    for path, told in (("/told", ["ci"]), ("/api/v1/users/7", []), ("/told", ["ci"])):
        assert ask(daemon, raw, "X-Key-Name: root", path=path).status == 200
        assert upstream.calls[-1].values("X-Key-Name") == told
    assert upstream.calls[-1].values("X-Scopes") == ["a%20b"]
    assert raw.encode() not in upstream.log


def test_guessing(tmp_path: Path, upstream: Upstream) -> None:
    """Wrong keys count as refused tokens do; who has a good one goes on."""
    raw = new_key()
    keys = tmp_path / "keys.txt"
    keys.write_text(f"ci sha256={digest_of(raw.encode()).hex()} user=bot\n")
    keys.chmod(0o600)
    with gateway(tmp_path, upstream, rest="[apikeys]\nfile = keys.txt", ratelimit="refused = 5/1h") as daemon:
        for number in range(8):
            answer = daemon.get("/api/v1/users/7", f"X-API-Key: gwk_{number:049}", tok=None)
            assert answer.status == (401 if number < 5 else 429)
        assert json.loads(answer.body)["limit"] == "refused 5/1h"
        assert daemon.get("/api/v1/users/7", f"X-API-Key: {raw}", tok=None).status == 200
        assert daemon.get("/api/v1/users/7", tok="x").status == 429


def test_expired_and_broken(daemon: Daemon) -> None:
    """A key that has expired is told so; while the file is broken the keys stay as they were."""
    raw = add(daemon, "ci", "--user", "bot")
    file = daemon.folder / "keys.txt"
    good = file.read_text()
    file.write_text("rubbish")
    daemon.logged("stay as they were")
    assert ask(daemon, raw).status == 200
    file.write_text(good.replace("user=bot", "user=bot expires=2020-01-01"))
    until(daemon, raw, 401)
    assert ask(daemon, raw).error == "Token expired"


def test_the_tool_s_mistakes(daemon: Daemon) -> None:
    """The tool says what is wrong, with status 1, and changes nothing."""
    for arguments, says in (
        (("add", "ci", "--user", "a\nb"), "--user"), (("add", "c i", "--user", "a"), "name"), (("add", "ci", "--user", "a", "--plan", "x"), "plan"),
        (("add", "ci", "--user", "a", "--expires", "2020-01-01"), "passed"), (("add", "ci", "--user", "a", "--limit", "5"), "--limit 5: expected"), (("revoke", "nobody"), "no key nobody"),
    ):  # fmt: skip
        status, out = tool(daemon, *arguments)
        assert (status, says in out) == (1, True), out
    assert tool(daemon, "list") == (0, "")


def test_the_tool_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who names the file of keys itself needs neither the INI file nor its secrets."""
    file = str(tmp_path / "keys.txt")
    for arguments in (["add", "ci", "--user", "bot", "--plan", "gold", "--expires", "30d"], ["list"], ["revoke", "ci"], ["list"]):
        assert main(["key", *arguments, "--file", file]) == 0
    raw, listed = capsys.readouterr().out.splitlines()
    assert raw.startswith("gwk_")
    assert re.fullmatch("ci  user bot  plan gold  made 20[0-9TZ:-]+  until 20[0-9TZ:-]+", listed)


def test_the_configuration_s_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file of keys, a field that means something else, and a route without its file are found before the start."""
    monkeypatch.setenv("JWT_SECRET", "s" * 40)
    ini = tmp_path / "gateway.ini"
    (tmp_path / "keys.txt").write_text("one\n")
    ini.write_text(
        "[jwt]\nsecret = ${JWT_SECRET}\n[apikeys]\nfile = keys.txt\nheader = Authorization\n"
        f"[audit]\ndatabase = {tmp_path}/a.sqlite3\n[route /a]\nupstream = http://127.0.0.1:1\nauth = mtls\n"
    )
    out = io.StringIO()
    with redirect_stderr(out):
        assert main(["check", str(ini)]) == 1
    found = out.getvalue()
    for says in ("[apikeys] file:", "line 1: expected sha256=", "[apikeys] header: Authorization means", "[route /a] auth:"):
        assert says in found


def test_who_is_known_by_a_token_is_not_by_the_next_key(daemon: Daemon, upstream: Upstream) -> None:
    """On one connection each request is who its own credential says."""
    raw = add(daemon, "ci", "--user", "bot")
    with daemon.connect() as client:
        for _ in range(3):
            for fields, tok, name in (((), token("alice"), "alice"), ((f"X-Gateway-Key: {raw}",), None, "bot")):
                client.send(request("/api/v1/users/7", *fields, tok=tok))
                assert client.answer().status == 200
                assert upstream.calls[-1].values("X-User-ID") == [name]
        client.send(request("/api/v1/users/7", tok=None))
        assert client.answer().status == 401


def test_reload(daemon: Daemon, upstream: Upstream) -> None:
    """Another field and no more keys hold from the reload on, whatever heads are known; keys go on through one."""
    raw = add(daemon, "ci", "--user", "bot")
    text = daemon.ini.read_text()
    for _ in range(3):
        assert daemon.get("/api/v1/users/7", "X-Other: 1").status == 200
    assert "reloaded" in daemon.reload(text.replace("edge = test-edge", "edge = other"))
    assert ask(daemon, raw).status == 200
    assert "reloaded" in daemon.reload(text.replace("X-Gateway-Key", "X-Other"))
    assert ask(daemon, raw).error == "Missing or invalid Authorization header"
    assert daemon.get("/api/v1/users/7", f"X-Other: {raw}", tok=None).status == 200
    assert daemon.get("/api/v1/users/7", "X-Other: 1").error == "Bad request"
    none = text.replace("file = keys.txt\nheader = X-Gateway-Key", "").replace("auth = apikey", "")
    assert "reloaded" in daemon.reload(none)
    assert daemon.get("/api/v1/users/7", f"X-Other: {raw}", tok=None).status == 401
