"""gateway explain beside a real daemon with the same file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from tests.stores.valkey import Valkey
from tests.system.tools import SECRET, WAIT, Daemon, Upstream, gateway, token

USERS = "require.role = admin\nmethods = GET, DELETE\nratelimit.limit = 1000"
ROUTES = """
[route /api/v1/orders]
upstream = http://127.0.0.1:9
body.max_size = 10
[route /api/v1/closed]
upstream = http://127.0.0.1:9
ip.deny = 127.0.0.0/8
"""
IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")

SAMPLE: list[tuple[str, str, str | None, tuple[str, ...]]] = [
    ("GET", "/api/v1/users/7?q=%20a", token(), ("Cookie: a=b", "X-User-ID: root", "x_user_role: root")),
    ("DELETE", "/api/v1/users", token(sub="bob\u00e9"), ("X-Odd: 1", "Connection: X-Odd")),
    ("POST", "/api/v1/users/7", token(), ()),
    ("GET", "/api/v1/users/7", token(role="user"), ()),
    ("GET", "/api/v1/users/7", token(exp=1), ()),
    ("GET", "/api/v1/users/7", token()[:-4] + "AAAA", ()),
    ("GET", "/api/v1/users/7", None, ("Authorization: Basic x",)),
    ("GET", "/api/v1/users//7", token(), ()),
    ("GET", "/api/v1/closed", token(), ()),
    ("GET", "/nowhere", token(), ()),
    ("GET", "/health", None, ()),
    ("OPTIONS", "/api/v1/users", None, ("Origin: https://a.example",)),
]


def explained(daemon: Daemon, capsys: pytest.CaptureFixture[str], method: str, path: str, tok: str | None,
              fields: tuple[str, ...]) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """The exit status and what was told."""
    words = ["explain", "--config", str(daemon.ini), method, path, "--json", "--ip", "127.0.0.1"]
    words += ["--token", tok] if tok is not None else []
    for field in ("Host: gateway.test", *fields):
        words += ["--header", field]
    status = main(words)
    return status, json.loads(capsys.readouterr().out)


def test_what_is_explained_happens(
    tmp_path: Path, upstream: Upstream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a sample of requests: the daemon's status and reason, and every line its upstream got, as explained."""
    monkeypatch.setenv("JWT_SECRET", SECRET)
    with gateway(tmp_path, upstream, users=USERS, routes=ROUTES) as daemon:
        for method, path, tok, fields in SAMPLE:
            calls = len(upstream.calls)
            status, found = explained(daemon, capsys, method, path, tok, fields)
            answer = daemon.get(path, *fields, tok=tok, method=method)
            if found["verdict"] == "allowed":
                assert (status, answer.status) == (0, 200)
                call = upstream.calls[calls]
                got = [call.method + b" " + call.target + b" " + call.version, *call.lines]
                lines = [re.sub(r"(?i)^(cookie): .*", r"\1: (hidden)", line.decode("latin-1")) for line in got]
                assert plain(lines) == plain(found["forwarded"])
            else:
                assert status == (0 if answer.status < 400 else 1)
                assert answer.status == found["status"]
                assert len(upstream.calls) == calls
        assert len(daemon.rows(len(SAMPLE))) == len(SAMPLE)


def plain(lines: list[str]) -> list[str]:
    """Without what differs from one request to the next."""
    return [IDENTIFIER.sub("ID", line) for line in lines]


def test_counters_of_a_shared_store_are_read(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a shared store explain tells what the next request would meet, and counts nothing there."""
    monkeypatch.setenv("JWT_SECRET", SECRET)
    store = Valkey()
    try:
        options = f"limit = 3\nwindow = 1h\nstore = {store.url}\nstore_timeout = 10s"
        with gateway(tmp_path, upstream, ratelimit=options) as daemon:
            tok = token("eve")
            for remaining in (2, 1, 0):
                before = sorted(store.ask("KEYS", "*"))
                for _ in range(2):
                    status, found = asked(daemon, tok)
                    assert (status, found["verdict"]) == (0, "allowed")
                    assert f"3/1h: {remaining} more after this one" in json.dumps(found)
                assert sorted(store.ask("KEYS", "*")) == before
                assert daemon.get(tok=tok)["X-RateLimit-Remaining"] == str(remaining)
            status, found = asked(daemon, tok)
            assert (status, found["status"], found["reason"]) == (1, 429, "limit")
            assert daemon.get(tok=tok).status == 429
            store.kill()
            status, found = asked(daemon, tok)
            assert found["notes"] == ["the shared store can't be asked now; nothing is known of its counters and circuits."]
            assert any(each["section"] == "ratelimit" and each["option"] == "on_store_failure" for stage in found["stages"] for each in stage["settings"])
    finally:
        store.stop()


def asked(daemon: Daemon, tok: str) -> tuple[int, dict[str, Any]]:
    """The same in a process of its own, whose reactor runs."""
    words = ["explain", "--config", str(daemon.ini), "GET", "/api/v1/users/7", "--json", "--token", tok]
    done = subprocess.run([sys.executable, "-m", "gateway.cli", *words], capture_output=True, timeout=WAIT, cwd=daemon.folder)
    return done.returncode, json.loads(done.stdout)


def test_counters_of_several_workers_are_read(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store that a gateway of several workers runs for itself is read too; without a running gateway, a note says so."""
    monkeypatch.setenv("JWT_SECRET", SECRET)
    tok = token("eve")
    with gateway(tmp_path, upstream, gateway="workers = 2", ratelimit="limit = 3\nwindow = 1h\nstore_timeout = 10s") as daemon:
        for number in (1, 2):
            daemon.logged(f"worker {number} serves")
        for _ in range(3):
            assert daemon.get(tok=tok).status == 200
        status, found = asked(daemon, tok)
        assert (status, found["reason"], found["notes"][0][:40]) == (1, "limit", "counters and open circuits are those of ")
    status, found = asked(daemon, tok)
    assert (status, found["verdict"]) == (0, "allowed")
    assert found["notes"] == ["the shared store can't be asked now; nothing is known of its counters and circuits."]
