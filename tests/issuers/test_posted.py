"""Tests for what a process says of itself while it lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.issuers.posted import Posted, read_posted


def test_posted(tmp_path: Path) -> None:
    """What a process posts is there as a whole, once for each process, until it ends."""
    one, two = Posted(tmp_path, "x"), Posted(tmp_path, "x")
    for number in range(3):
        one.write({"n": number})
    two.write({"n": 7})
    assert sorted(each["n"] for each in read_posted(tmp_path, "x")) == [2, 7]
    assert read_posted(tmp_path, "y") == []
    assert one.path.stat().st_mode & 0o777 == 0o600
    one.remove()
    one.write({"n": 9})
    two.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """Where nothing can be written that is an error, and nothing half-made stays."""
    one = Posted(tmp_path / "gone", "x")
    with pytest.raises(OSError, match="gone"):
        one.write({})
    one.remove()
