"""Tests for gateway.keyfile and gateway.keywatch: whole files only, and the old keys while a new file is broken."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from gateway.admission.apikeys import Key, KeyRules, digest_of, new_key
from gateway.admission.identity import Identity
from gateway.keyfile import add, listed, revoke
from gateway.keywatch import LARGE, KeyFile


def key(name: str, raw: str = "") -> Key:
    """A key of that name."""
    return Key(name, digest_of((raw or new_key()).encode()), "alice")


def knows(file: KeyFile, raw: str) -> bool:
    """Whether the key lets somebody in."""
    return isinstance(file.keys.identify(raw.encode(), 0.0), Identity)


class Threads:
    """Threads that run when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, call: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.calls.append(lambda: done.callback(None) or None)
        done.addCallback(lambda _: call(*arguments))
        return done


def at_once(call: Any, *arguments: Any) -> Any:
    """No thread is needed."""
    raise AssertionError("a small file is read at once")


def test_add_list_revoke(tmp_path: Path) -> None:
    """Keys are added and revoked line by line; comments stay; the file is its owner's alone."""
    path = tmp_path / "keys.txt"
    add(str(path), key("one"))
    path.write_text("# ours\n" + path.read_text() + "\n# more\n")
    add(str(path), key("two"))
    assert [each.name for each in listed(str(path))] == ["one", "two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="there is a key one already"):
        add(str(path), key("one"))
    revoke(str(path), "one")
    assert [each.name for each in listed(str(path))] == ["two"]
    assert path.read_text().startswith("# ours\n\n# more\n")
    with pytest.raises(ValueError, match="there is no key one"):
        revoke(str(path), "one")


def test_a_broken_file_is_left_alone(tmp_path: Path) -> None:
    """The tool changes no file that it can't read, and leaves nothing beside it but the lock."""
    path = tmp_path / "keys.txt"
    path.write_text("what is this")
    with pytest.raises(ValueError, match="line 1"):
        add(str(path), key("one"))
    with pytest.raises(ValueError, match="line 1"):
        revoke(str(path), "one")
    assert path.read_text() == "what is this"
    assert sorted(os.listdir(tmp_path)) == ["keys.txt", "keys.txt.lock"]


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new file can't be put in place, the old one is whole and nothing is left behind."""
    path = tmp_path / "keys.txt"
    add(str(path), key("one"))
    before = path.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        add(str(path), key("two"))
    assert path.read_text() == before
    assert sorted(os.listdir(tmp_path)) == ["keys.txt", "keys.txt.lock"]


def _add(path: str, name: str) -> None:
    add(path, Key(name, digest_of(name.encode()), "alice"))


def test_many_at_once(tmp_path: Path) -> None:
    """Eight processes that add keys at the same time lose none."""
    path = str(tmp_path / "keys.txt")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_add, args=(path, f"key{number}")) for number in range(8)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert {each.name for each in listed(path)} == {f"key{number}" for number in range(8)}


def test_another_file_holds_at_the_next_look(tmp_path: Path) -> None:
    """A key lets in from the look after it was added until the look after it was revoked."""
    path, raw = str(tmp_path / "keys.txt"), new_key()
    add(path, key("one"))
    file = KeyFile(path, KeyRules(), at_once)
    assert not knows(file, raw)
    add(path, key("two", raw))
    file.look()
    assert knows(file, raw)
    revoke(path, "two")
    file.look()
    assert not knows(file, raw)


def test_broken_and_gone(tmp_path: Path) -> None:
    """A broken or vanished file leaves the keys as they were, and is told once, without its content."""
    path, raw = tmp_path / "keys.txt", new_key()
    add(str(path), key("one", raw))
    file = KeyFile(str(path), KeyRules(), at_once)
    with capturedLogs() as events:
        path.write_text("hunter2 hunter2")
        for _ in range(3):
            file.look()
        path.unlink()
        for _ in range(3):
            file.look()
        assert knows(file, raw)
        add(str(path), key("one"))
        file.look()
    assert not knows(file, raw)
    errors = [event for event in events if event["log_level"] is LogLevel.error]
    assert len(errors) == 2
    assert "hunter2" not in repr(events)


def test_no_file_yet(tmp_path: Path) -> None:
    """Without a file nobody comes in by key, until there is one."""
    path, raw = str(tmp_path / "keys.txt"), new_key()
    file = KeyFile(path, KeyRules(), at_once)
    assert len(file.keys) == 0
    add(path, key("one", raw))
    file.look()
    assert knows(file, raw)


def test_a_large_file_is_read_elsewhere(tmp_path: Path) -> None:
    """A file that takes long is read in a thread, one at a time; the old keys hold meanwhile."""
    path, raw = tmp_path / "keys.txt", new_key()
    threads = Threads()
    add(str(path), key("one"))
    file = KeyFile(str(path), KeyRules(), threads)
    path.write_text(key("two", raw).line + "\n#" + "x" * LARGE)
    file.look()
    file.look()
    assert len(threads.calls) == 1
    assert not knows(file, raw)
    threads.calls.pop()()
    assert knows(file, raw)
    path.write_text("broken " + "x" * LARGE)
    file.look()
    with capturedLogs() as events:
        threads.calls.pop()()
    assert knows(file, raw)
    assert "the keys stay as they were" in events[0]["log_format"]
