# -*- test-case-name: tests.stores.test_embedded -*-
"""
Who may run the embedded store's server: lets one process own it at a time, and any number
use it; refuses to end it while anybody does.

Both are locks on files in the server's folder, which the kernel lets go when a process ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

#: Seconds for a server that has been told to end.
_PATIENCE = 1.0


class Ownership:
    """
    One process's part in the server of a folder.

    @ivar owner: whether it is this one that runs the server.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._use = self._lock = -1

    @property
    def owner(self) -> bool:
        """See the class."""
        return self._lock >= 0

    def use(self) -> bool:
        """Use the server from now on; false: the last one is just ending it."""
        if self._use < 0:
            self._use = self._locked("users", fcntl.LOCK_SH)
        return self._use >= 0

    def own(self) -> bool:
        """Own the server, unless another process does."""
        if self._lock < 0:
            self._lock = self._locked("lock", fcntl.LOCK_EX)
        return self._lock >= 0

    def last(self) -> bool:
        """Use it no more; whether nobody else does. Nobody can begin to until L{release}."""
        self._close_use()
        self._use = self._locked("users", fcntl.LOCK_EX)
        return self._use >= 0

    def release(self) -> None:
        """Neither own nor use it any more."""
        self._close_use()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _close_use(self) -> None:
        if self._use >= 0:
            os.close(self._use)
            self._use = -1

    def _locked(self, name: str, kind: int) -> int:
        try:
            lock = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return -1
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return -1
        return lock


def end_unowned(path: str) -> None:
    """End the server that nobody owns and nobody uses any more, if there is one."""
    mine = Ownership(Path(path).parent)
    try:
        if mine.own() and mine.last():
            _end(path)
    finally:
        mine.release()


def _end(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(_PATIENCE)
        client.connect(path)
        client.sendall(b"SHUTDOWN NOSAVE\r\n")
        while client.recv(4096):
            pass
