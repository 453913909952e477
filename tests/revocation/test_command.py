"""gateway revoke on the command line."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.revocation.entries import Entry
from gateway.revocation.journal import Journal

INI = """
[gateway]
listen = tcp:1
revocations = {folder}/revoked
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


def held(config: str) -> list[Entry]:
    """What the gateways will read."""
    return Journal(str(Path(config).with_name("revoked"))).load()


def revoke(config: str, *words: str) -> int:
    """The exit status."""
    return main(["revoke", "--config", config, *words])


def test_say_list_undo(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A user, a token and a key are revoked, shown, and taken back."""
    before = time.time()
    assert revoke(config, "--user", "alice", "--reason", "left") == 0
    assert revoke(config, "--user", "bob", "--before", "2026-01-31T12:00:00Z") == 0
    assert revoke(config, "--jti", "x1", "--until", "2096-10-02T07:06:40Z") == 0
    assert revoke(config, "--kid", "k1") == 0
    assert capsys.readouterr().out.startswith("revoked: user alice, issued before 2")
    found = {entry.key: entry for entry in held(config)}
    assert before <= found["user", "alice"].before <= time.time()
    assert found["user", "bob"].before == 1769860800
    assert found["jti", "x1"].until == 4e9
    assert revoke(config, "--list") == 0
    assert capsys.readouterr().out.count("\n") == 4
    assert revoke(config, "--list", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["value"] for each in told} == {"alice", "bob", "x1", "k1"}
    assert [each["reason"] for each in told if each["value"] == "alice"] == ["left"]
    assert revoke(config, "--user", "alice", "--undo") == 0
    assert revoke(config, "--list") == 0
    assert "alice" not in capsys.readouterr().out.split("\n", 1)[1]
    assert revoke(config, "--user", "alice", "--undo") == 1
    assert "user alice is not revoked" in capsys.readouterr().err


def test_a_token_is_revoked_until_it_ends(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token's own jti and exp; it may come from standard input."""
    assert main(["token", "--config", config, "--sub", "a", "--claim", 'jti="x9"', "--lifetime", "60"]) == 0
    tok = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(tok))
    assert revoke(config, "--token", "-") == 0
    (entry,) = held(config)
    assert entry.key == ("jti", "x9")
    assert 3600 < entry.until - time.time() < 3700
    assert tok.strip() not in capsys.readouterr().out


@pytest.mark.parametrize("words", [
    ["--jti", ""], ["--jti", "a\nb"], ["--user", "a", "--before", "noon"], ["--jti", "a", "--before", "1"],
    ["--token", "x.y.z"], ["--jti", "a", "--reason", "x" * 201], ["--kid", "a", "--until", "nan"],
])  # fmt: skip
def test_words_that_are_none(config: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What names nothing is refused, and nothing is written."""
    assert revoke(config, *words) == 1
    assert capsys.readouterr().err.startswith("gateway: ")
    assert held(config) == []


def test_a_clock_that_was_set_back(config: str) -> None:
    """A later word holds even if this machine's clock says that it is earlier."""
    path = str(Path(config).with_name("revoked"))
    ahead = time.time() + 5000
    Journal(path).add([Entry("jti", "x", ahead)], 0.0)
    assert revoke(config, "--jti", "x", "--undo") == 0
    assert [entry.undone for entry in held(config)] == [True]
