"""Twisted's own reactor tests pass on this reactor, but for a table of listed ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reactor.table import NOT_OURS

pytest.importorskip("uvloop")

ROOT = Path(__file__).parents[2]

#: Twisted has 300 of them today; many fewer would mean that they weren't found.
LEAST = 280


def test_twisteds_own_tests(tmp_path: Path) -> None:
    """Whatever Twisted asks of any reactor, this one does, save what the table lists."""
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", f"--temp-directory={tmp_path / 'trial'}", "tests.reactor.suite"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    told = done.stdout[-20_000:] + done.stderr[-5_000:]
    assert done.returncode == 0, told
    summary = done.stdout.rstrip().splitlines()[-1]
    assert summary.startswith("PASSED"), told
    assert "unexpectedSuccesses" not in summary, "take them off the table: " + told
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary)}
    assert counts["successes"] >= LEAST, told
    # Every entry of the table has met its test.
    assert counts["expectedFailures"] == len(NOT_OURS), told
