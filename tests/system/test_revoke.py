"""gateway revoke, with real daemons."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.cli import main
from tests.stores.valkey import Valkey
from tests.system.scripts import Endless
from tests.system.tools import SECRET, WAIT, Daemon, Upstream, gateway, request, token


def revoke(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """On the command line, in the daemon's working directory."""
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.chdir(daemon.folder)
    assert main(["revoke", "--config", str(daemon.ini), *words]) == 0


def until(daemon: Daemon, tok: str, status: int) -> None:
    """Ask until that is the answer."""
    deadline = time.monotonic() + WAIT
    while (found := daemon.get(tok=tok).status) != status:
        assert time.monotonic() < deadline, found


def test_in_force_without_a_restart(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token that has just been good gets 401; a later one of the same user passes; a restart forgets nothing."""
    old, new = token(iat=int(time.time()) - 10), token(iat=int(time.time()) + 10)
    with gateway(tmp_path, upstream) as daemon:
        assert daemon.get(tok=old).status == daemon.get(tok=new).status == 200
        revoke(daemon, monkeypatch, "--user", "alice", "--reason", "left")
        until(daemon, old, 401)
        answer = daemon.get(tok=old)
        assert answer.error == "Token validation failed"
        assert daemon.get(tok=new).status == 200
        rows = daemon.rows(1, "reason = 'revoked'")
        assert rows[0]["detail"] == "user: left"
        assert main(["explain", "--config", str(daemon.ini), "GET", "/api/v1/users/7", "--token", old]) == 1
        assert "it has been revoked: user: left" in capsys.readouterr().out
    with gateway(tmp_path, upstream) as daemon:
        assert (daemon.get(tok=old).status, daemon.get(tok=new).status) == (401, 200)
        revoke(daemon, monkeypatch, "--user", "alice", "--undo")
        until(daemon, old, 200)


def test_a_stream_is_cut(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that still streams ends when its user is revoked; the upstream's connection too; another's goes on."""
    endless = upstream.answer = Endless()
    with gateway(tmp_path, upstream, gateway="shutdown_grace = 0s") as daemon, daemon.connect() as ann, daemon.connect() as bob:
        for client, sub in ((ann, "ann"), (bob, "bob")):
            client.send(request("/api/v1/users/7", tok=token(sub)))
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        revoke(daemon, monkeypatch, "--user", "ann")
        while ann.more():
            pass
        assert b"0\r\n\r\n" not in ann.buffer
        assert endless.ended.get(timeout=WAIT) == ["ann"]
        rows = daemon.rows(1, "reason = 'revoked'")
        assert [(row["user_id"], row["status"]) for row in rows] == [("ann", 200)]
        assert endless.ended.empty()


def test_other_machines_hear_of_it(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said on one machine, it holds on all that share the store, and stays there when the store has gone."""
    store = Valkey()
    try:
        options = f"store = {store.url}\nstore_timeout = 10s"
        one, two = tmp_path / "1", tmp_path / "2"
        one.mkdir()
        two.mkdir()
        with gateway(one, upstream, ratelimit=options) as here, gateway(two, upstream, ratelimit=options) as there:
            tok = token(jti="x1")
            assert here.get(tok=tok).status == there.get(tok=tok).status == 200
            revoke(here, monkeypatch, "--jti", "x1")
            until(there, tok, 401)
            until(here, tok, 401)
            there.logged("revoked elsewhere: jti x1")
            deadline = time.monotonic() + WAIT
            while not (two / "gateway-revocations").exists():
                assert time.monotonic() < deadline
                there.get(tok=tok)
    finally:
        store.stop()
    with gateway(two, upstream) as there:
        assert there.get(tok=tok).status == 401


def test_every_worker_obeys(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several workers, whichever answers: none lets the token in any more, and all sign with one key."""
    with gateway(tmp_path, upstream, gateway="workers = 2", users="assertion = user") as daemon:
        for number in (1, 2):
            daemon.logged(f"worker {number} serves")
        tok = token(jti="x1")
        keys = {daemon.get("/.well-known/gateway/jwks.json", tok=None).body for _ in range(20)}
        assert len(keys) == 1
        assert {daemon.get(tok=tok).status for _ in range(20)} == {200}
        revoke(daemon, monkeypatch, "--jti", "x1")
        deadline = time.monotonic() + WAIT
        while {daemon.get(tok=tok).status for _ in range(20)} != {401}:
            assert time.monotonic() < deadline
        assert {daemon.get(tok=token(jti="x2")).status for _ in range(20)} == {200}
