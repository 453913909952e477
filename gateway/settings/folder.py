# -*- test-case-name: tests.settings.test_folder -*-
"""
The folder of a configuration file, whose key files are relative to it: lets them be read
from the disk, or as somebody has read them before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Bytes of a key file that are read.
_MOST = 1 << 20


class Folder:
    """
    @param path: the folder's.
    @param files: what its files hold, by the names the configuration gives them; C{None}:
        look at the disk.
    @ivar seen: every file that has been read.
    """

    def __init__(self, path: str, files: Mapping[str, bytes] | None = None) -> None:
        self.path = path
        self.seen: dict[str, bytes] = {}
        self._files = files

    def __fspath__(self) -> str:
        return self.path

    @property
    def remembered(self) -> bool:
        """Whether its files are as they were, not as they are."""
        return self._files is not None

    def read(self, name: str) -> bytes:
        """
        A file.

        @raise OSError: when it can't be read.
        """
        if self._files is None:
            with (Path(self.path) / name).open("rb") as file:
                raw = file.read(_MOST)
        elif name in self._files:
            raw = self._files[name]
        else:
            raise FileNotFoundError(2, "it was not read when the file was checked", name)
        self.seen[name] = raw
        return raw
