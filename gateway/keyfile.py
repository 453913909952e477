# -*- test-case-name: tests.test_keyfile -*-
"""
The file of API keys: lets a whole new file take the old one's place, never half of one; what
can't be read leaves the keys as they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.admission.apikeys import MAX_FILE, Key, KeyRules, Keys, read_line, read_lines


class BadKeys(Exception):
    """The file can't be used; C{str()} says why, and nothing of what is in it."""


def load(path: str, rules: KeyRules) -> Keys:
    """
    Read a file of keys.

    @raise BadKeys: when it can't be.
    """
    return _parse(_read(path), path, rules)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path may be relative to anything
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise BadKeys(f"{path} can't be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise BadKeys(f"{path} is larger than {MAX_FILE >> 20} MiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadKeys(f"{path} is not UTF-8") from None


def _parse(text: str, path: str, rules: KeyRules) -> Keys:
    try:
        return Keys.read(text, rules)
    except ValueError as error:
        raise BadKeys(f"{path}: {error}") from None


# -- changing it, for the tools


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile. The lock is a file beside it that stays."""
    descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """Put a whole file in the old one's place, with its owner and a mode of 0600."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            with contextlib.suppress(OSError):
                # Made by root for a daemon that is not root: it stays the daemon's.
                before = path.stat() if path.exists() else path.parent.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _text(path: Path) -> str:
    return _read(str(path)) if path.exists() else ""


def listed(path: str) -> list[Key]:
    """
    The keys on file.

    @raise ValueError: when the file is broken.
    """
    try:
        return [key for _, key in read_lines(_text(Path(path)))]
    except BadKeys as error:
        raise ValueError(str(error)) from None


def add(path: str, key: Key) -> None:
    """
    Add a line.

    @raise ValueError: when the file is broken, or has a key of that name.
    """
    read_line(key.line)
    place = Path(path).resolve()
    with _locked(place):
        if any(key.name == other.name for other in listed(str(place))):
            raise ValueError(f"there is a key {key.name} already")
        before = _text(place)
        if before and not before.endswith("\n"):
            before += "\n"
        _write(place, f"{before}{key.line}\n")


def revoke(path: str, name: str) -> None:
    """
    Take the line of that name away; all others stay as they are, letter for letter.

    @raise ValueError: when the file is broken, or has no such key.
    """
    place = Path(path).resolve()
    with _locked(place):
        text = _text(place)
        numbers = [number for number, key in read_lines(text) if key.name == name]
        if not numbers:
            raise ValueError(f"there is no key {name}")
        lines = text.split("\n")
        del lines[numbers[0] - 1]
        _write(place, "\n".join(lines))


def readable_by_others(path: str) -> int:
    """The mode's bits for others than the owner; 0: none, or no file."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o077  # noqa: PTH116
    except OSError:
        return 0
