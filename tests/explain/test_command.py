"""gateway explain on the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gateway.cli import main

INI = """
[gateway]
listen = tcp:1
[jwt]
secret = ssssssssssssssssssssssssssssssssssssssss
[audit]
database = {folder}/audit.sqlite3
[route /api]
upstream = http://127.0.0.1:9
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A file."""
    path = tmp_path / "gateway.ini"
    path.write_text(INI.format(folder=tmp_path))
    return str(path)


@pytest.fixture
def tok(config: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A token made by the command next to it."""
    assert main(["token", "--config", config, "--sub", "alice"]) == 0
    return capsys.readouterr().out.strip()


def test_exit_statuses(config: str, tok: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 allowed, 1 refused, 2 for a question or a configuration that is not right; nothing is written."""
    assert main(["explain", "--config", config, "GET", "https://host/api/7", "--token", tok]) == 0
    assert "ALLOWED" in capsys.readouterr().out
    assert main(["explain", "--config", config, "GET", "https://host/api/7"]) == 1
    assert "REFUSED: 401 (no_token)" in capsys.readouterr().out
    assert main(["explain", "--config", config, "GET", "/health"]) == 0
    assert main(["explain", "--config", str(tmp_path / "none.ini"), "GET", "/api"]) == 2
    assert "can't be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.ini"]


@pytest.mark.parametrize("words", [
    ["G T", "/api"], ["GET", "ftp://host/"], ["GET", "host/api"], ["GET", "https://a b/"],
    ["GET", "/api", "--header", "X"], ["GET", "/api", "--header", "X: a\r\nY: b"], ["GET", "/api", "--ip", "here"],
    ["GET", "/api", "--at", "noon"], ["GET", "/api", "--body-size", "-1"], ["GET", "/api", "--token", "a b"],
    ["GET", "/\u20ac"],
])  # fmt: skip
def test_questions_that_are_none(config: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What describes no request is told so, with status 2."""
    assert main(["explain", "--config", config, *words]) == 2
    assert capsys.readouterr().err.startswith("gateway explain: ")


def test_a_token_from_standard_input(
    config: str, tok: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token need not stand in the list of processes."""
    monkeypatch.setattr("sys.stdin", io.StringIO(tok + "\n"))
    words = ["POST", "/api/7?a=b", "--token", "-", "--ip", "unix", "--body-size", "5", "--json", "--header", "Host: shop"]
    assert main(["explain", "--config", config, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["request"], found["peer"], found["verdict"]) == ("POST /api/7?a=b HTTP/1.1", "unix", "allowed")
    assert "Content-Length: 5" in found["forwarded"]
    assert "X-Forwarded-Host: shop" in found["forwarded"]


def test_another_time(config: str, tok: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked about tomorrow, today's token has expired."""
    assert main(["explain", "--config", config, "GET", "/api", "--token", tok, "--at", "2096-10-02T07:06:40Z"]) == 1
    assert "it has expired; it is 2096-10-02T07:06:40Z now" in capsys.readouterr().out
