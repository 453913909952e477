"""gateway explain beside a real daemon with the same file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from tests.system.tools import SECRET, Daemon, Upstream, gateway, token

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
