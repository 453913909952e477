"""Tests for gateway keys --fetch: what every issuer publishes, seen from here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.system.issuer import Child, issuer
from tests.system.tools import SECRET


def keys(folder: Path, *issuers: Child, options: str = "", arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command, with such a file."""
    text = "[jwt]\nsecret = ${JWT_SECRET}\n[route /a]\nupstream = http://127.0.0.1:1\n"
    for number, each in enumerate(issuers):
        text += f"[issuer i{number}]\nissuer = {each.iss}\ndiscovery = {each.iss}/x\n{options}"
    (folder / "g.ini").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "keys", "--fetch", "--config", str(folder / "g.ini"), *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "JWT_SECRET": SECRET},
    )  # fmt: skip


def test_keys(tmp_path: Path) -> None:
    """Each issuer's source, its keys with their algorithms, and when they are asked for again; exit status 0."""
    with issuer() as one, issuer("RS256") as two:
        one.control(max_age=600)
        found = keys(tmp_path, one, two)
        assert found.returncode == 0, found.stderr
        assert f"source    {one.iss}/jwks" in found.stdout
        assert "key       k0: ES256" in found.stdout
        assert "key       k0: RS256" in found.stdout
        assert "refresh   within 8m; the issuer says 600 s" in found.stdout
        assert "refresh   within 48m; the issuer says nothing" in found.stdout


def test_an_issuer_that_is_away(tmp_path: Path) -> None:
    """What is wrong with one issuer is told beside the other's keys; exit status 1. As JSON, too."""
    with issuer() as one, issuer() as two:
        two.control(mode="stranger")
        found = keys(tmp_path, one, two, arguments=("--json",))
        assert found.returncode == 1
        good, bad = (json.loads(line) for line in found.stdout.splitlines())
        assert good["keys"] == [{"kid": "k0", "algorithms": ["ES256"]}]
        assert bad["problem"] == "discovery: the document is another issuer's"


def test_no_issuer(tmp_path: Path) -> None:
    """Without an issuer there is nothing to fetch."""
    found = keys(tmp_path)
    assert (found.returncode, found.stdout.startswith("there is no [issuer NAME]")) == (0, True)


def test_no_key_to_sign_with(tmp_path: Path) -> None:
    """Gateway token makes none where all tokens are issuers', and says so."""
    (tmp_path / "g.ini").write_text("[issuer a]\nissuer = a\njwks = https://a/\n[route /a]\nupstream = http://127.0.0.1:1\n")
    found = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "token", "--config", str(tmp_path / "g.ini"), "--sub", "alice"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (1, "gateway: [jwt] has no key: tokens come from the issuers alone\n")
