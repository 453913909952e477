"""Key files, from the disk or as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.settings.folder import Folder


def test_from_the_disk(tmp_path: Path) -> None:
    """Files are read as they are, and what was read can be told."""
    (tmp_path / "a").write_bytes(b"1")
    folder = Folder(str(tmp_path))
    assert folder.read("a") == b"1"
    assert folder.seen == {"a": b"1"}
    assert os.fspath(folder) == str(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        folder.read("b")


def test_as_they_were(tmp_path: Path) -> None:
    """A folder that is remembered is not looked at."""
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    folder = Folder(str(tmp_path), {"a": b"0"})
    assert folder.remembered
    assert folder.read("a") == b"0"
    with pytest.raises(OSError, match="not read when the file was checked"):
        folder.read("b")
