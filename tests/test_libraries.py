"""Tests for gateway.libraries."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from gateway.libraries import LEAST, outdated
from gateway.tap import Options


def test_what_is_installed_will_do() -> None:
    """The libraries the tests run beside are new enough."""
    assert outdated() == []


@pytest.mark.parametrize(("jwt", "twisted"), [("2.12.9", "26.4.0"), ("2.9", "27.1"), ("1.99.0", "26.10.0rc1")])
def test_old_ones_are_named(jwt: str, twisted: str) -> None:
    """Row 2 (CVE-2026-48523): a PyJWT with open advisories is named, with what is needed."""
    found = outdated({"PyJWT": jwt, "Twisted": twisted}.__getitem__)
    assert found == [f"PyJWT {jwt} is too old (CVE-2026-48523, CVE-2026-48524); needed is 2.13 or newer"]


def test_an_old_twisted_is_named() -> None:
    """CVE-2026-42304: a Twisted before 26.4 is named; numbers are compared as numbers."""
    for version, count in (("26.3.9", 1), ("9.10", 1), ("26.10.0", 0), ("26.4", 0)):
        assert len(outdated({"PyJWT": "2.13.0", "Twisted": version}.__getitem__)) == count


def test_old_ones_start_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With an old library the daemon says so and exits with status 1, before any file is read."""
    monkeypatch.setattr("gateway.tap.outdated", lambda: ["PyJWT 1 is too old"])
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--demo"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "gateway: PyJWT 1 is too old\n"


def test_the_bounds_are_the_installers() -> None:
    """setup.cfg asks for the same versions."""
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[1] / "setup.cfg")
    asked = parser["options"]["install_requires"].replace("[crypto]", "")
    for name, (least, _) in LEAST.items():
        assert f"{name} >= {'.'.join(map(str, least))}\n" in asked + "\n"
