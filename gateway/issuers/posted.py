# -*- test-case-name: tests.issuers.test_posted -*-
"""
Posts what a process says of itself in a file of its own, for tools on the same machine: whole
or not at all, and only as long as the process lives. Lets a disk that takes nothing pass.

The process holds a lock on its file (C{flock}), which the system gives up when it dies,
however it dies: what nobody holds is a dead one's. That knows no process numbers, which come
again and mean something else in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings

#: Bytes of one file that are read; one issuer with 100 keys has 30,000.
_MOST = 16 << 20

_FRESH = ".new"


def place(gateway: GatewaySettings) -> tuple[Path, str]:
    """The folder of what is posted, beside the revocations, and what the names begin with."""
    return Path(gateway.revocations).parent, f"{gateway.name}-keys"


class Posted:
    """
    One process's file.

    @param folder: where; each process has another name in it.
    @param name: what all their names begin with.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self.path = folder / f"{name}.{token_hex(8)}.json"
        self._held = -1
        self._gone = False
        self._lock = threading.Lock()

    def write(self, what: dict[str, Any]) -> None:
        """
        Post it. The first time, the files of dead processes go.

        @raise OSError: when it can't be written.
        """
        with self._lock:
            if self._gone:
                return
            if self._held < 0:
                _sweep(self._folder, self._name)
            self._replace(json.dumps(what).encode())

    def _replace(self, text: bytes) -> None:
        fresh = self.path.with_name(self.path.name + _FRESH)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Before it has its name: whoever finds it there finds it held.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(text)
            fresh.replace(self.path)
        except BaseException:
            os.close(descriptor)
            fresh.unlink(missing_ok=True)
            raise
        if self._held >= 0:
            os.close(self._held)
        self._held = descriptor

    def remove(self) -> None:
        """The process ends."""
        with self._lock:
            self._gone = True
            if self._held >= 0:
                self.path.unlink(missing_ok=True)
                os.close(self._held)
                self._held = -1


def read_posted(folder: Path, name: str) -> list[dict[str, Any]]:
    """
    What each process that lives has posted.

    @raise OSError: when one's file can't be read.
    """
    found = []
    for path in sorted(_files(folder, name)):
        if path.name.endswith(_FRESH):
            continue
        text = _of_the_living(path)
        with contextlib.suppress(ValueError):
            what = json.loads(text)
            if isinstance(what, dict):
                found.append(what)
    return found


def _of_the_living(path: Path) -> bytes:
    """What stands in a file that its process holds; empty for any other."""
    for _ in range(100):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            if _held(descriptor):
                return os.read(descriptor, _MOST)
            # Nobody holds it: its process is dead, or has put a newer one in its place.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return b""
        finally:
            os.close(descriptor)
    return b""


def _held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _files(folder: Path, name: str) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            ours = entry.name.startswith(f"{name}.")
            if ours and entry.name.removesuffix(_FRESH).endswith(".json"):
                yield Path(entry.path)


def _sweep(folder: Path, name: str) -> None:
    """Remove what dead processes have left."""
    for path in list(_files(folder, name)):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not _held(descriptor) and os.fstat(descriptor).st_ino == path.stat().st_ino:
                    path.unlink()
            finally:
                os.close(descriptor)
