"""The file of what is revoked."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.revocation import entries
from gateway.revocation.entries import Entry
from gateway.revocation.journal import Journal

NOW = 1_700_000_000.0


def add(path: str, number: int) -> int:
    """One writer's: a lock is of each opening of the file, not of the process."""
    return len(Journal(path).add([Entry("jti", f"{number}-{each}", NOW) for each in range(10)], NOW))


def test_what_is_added_is_there(tmp_path: Path) -> None:
    """An entry is read again by whoever looks; a reader sees once that there is something new."""
    path = tmp_path / "revocations"
    watching, writing = Journal(str(path)), Journal(str(path))
    assert not watching.changed()
    assert watching.load() == []
    entry = Entry("user", "ann", NOW, before=NOW, reason="left")
    assert writing.add([entry], NOW) == [entry]
    assert watching.changed()
    assert watching.load() == [entry]
    assert not watching.changed()
    assert writing.add([entry], NOW) == []
    assert not watching.changed()
    undone = replace(entry, at=NOW + 1, undone=True)
    writing.add([undone], NOW)
    assert watching.load() == [undone]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["revocations", "revocations.lock"]


def test_many_at_once(tmp_path: Path) -> None:
    """Of eight writers that add at the same time, none undoes another's."""
    path = str(tmp_path / "revocations")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(add, [path] * 8, range(8))) == [10] * 8
    assert len(Journal(path).load()) == 80


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    """A file that somebody has damaged still says what can be read of it."""
    path = tmp_path / "revocations"
    entry = Entry("jti", "x", NOW)
    path.write_bytes(b"\xff\xfe\n" + entry.to_json().encode() + b"\n{\n")
    assert Journal(str(path)).load() == [entry]


def test_what_is_over_leaves_the_file(tmp_path: Path) -> None:
    """The file holds only what can still concern somebody."""
    journal = Journal(str(tmp_path / "revocations"))
    journal.add([Entry("jti", "old", NOW, until=NOW + 10)], NOW)
    journal.add([Entry("jti", "new", NOW)], NOW + 11)
    assert [entry.value for entry in journal.load()] == ["new"]


def test_a_full_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be kept is not silently dropped."""
    monkeypatch.setattr(entries, "MOST", 1)
    journal = Journal(str(tmp_path / "revocations"))
    journal.add([Entry("jti", "1", NOW)], NOW)
    with pytest.raises(ValueError, match="no room"):
        journal.add([Entry("jti", "2", NOW)], NOW)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever owns the folder can't lead root to another file."""
    (tmp_path / "other").write_bytes(b"")
    (tmp_path / "revocations.lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        Journal(str(tmp_path / "revocations")).add([Entry("jti", "1", NOW)], NOW)


def test_only_what_is_new_is_read_again(tmp_path: Path) -> None:
    """Of a long file that has got one more line, one line is parsed."""
    path = str(tmp_path / "revocations")
    watching = Journal(path)
    Journal(path).add([Entry("jti", str(number), NOW) for number in range(1000)], NOW)
    assert len(watching.news()) == 1000
    Journal(path).add([Entry("jti", "one more", NOW)], NOW)
    assert [entry.value for entry in watching.news()] == ["one more"]
    assert watching.news() == []
    assert len(watching.load()) == 1001
