# -*- test-case-name: tests.revocation.test_journal -*-
"""
The file in which a machine keeps what is revoked: lets several processes add to it and
watch it; a line that is none is passed over.

One entry a line, in JSON. It is written anew beside and put in place at once, under a lock,
so that whoever reads has all of one version. Looking whether it has changed is one C{stat}.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from secrets import token_hex

from gateway.revocation.entries import Entry, Revocations, from_json

#: Bytes that are read; more than all entries there can be.
_MOST = 128 << 20


class Journal:
    """
    @param path: the file's; the lock beside it has another name.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._lines: frozenset[str] = frozenset()

    def changed(self) -> bool:
        """Whether it is another version than the one last loaded."""
        return self._version() != self._seen

    def load(self) -> list[Entry]:
        """
        All entries.

        @raise OSError: when it is there and can't be read.
        """
        self._lines = frozenset()
        return self.news()

    def news(self) -> list[Entry]:
        """
        Those that are new since the last time: of many, the few that change are parsed.

        @raise OSError: as L{load}.
        """
        version = self._version()
        try:
            with self.path.open("rb") as file:
                text = file.read(_MOST).decode("utf-8", "replace")
        except FileNotFoundError:
            text = ""
        lines = frozenset(text.splitlines())
        self._seen, fresh, self._lines = version, lines - self._lines, lines
        found = map(from_json, fresh)
        return [entry for entry in found if entry is not None]

    def add(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """
        Keep some more; those of which the file had something to learn.

        @raise OSError: when it can't be written.
        @raise ValueError: when there is no room.
        """
        with self._locked():
            held = Revocations()
            held.merge(Journal(str(self.path)).load(), now)
            news = held.merge(entries, now)
            if held.refused:
                raise ValueError(f"{self.path}: there is no room for more")
            if news:
                self._write(held)
            return news

    def _write(self, held: Iterable[Entry]) -> None:
        fresh = self.path.with_name(f"{self.path.name}.{token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for entry in held:
                    file.write(entry.to_json().encode() + b"\n")
                file.flush()
                self._same_owner(descriptor)
                os.fsync(descriptor)
            fresh.replace(self.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise

    def _same_owner(self, descriptor: int) -> None:
        """What root has made, the gateway's user must be able to read and replace."""
        if os.geteuid() == 0:
            folder = self.path.parent.stat()
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, folder.st_uid, folder.st_gid)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            # Ours alone: whoever owns the folder could lead root elsewhere by a link.
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._same_owner(descriptor)
        except FileExistsError:
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _version(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
