# -*- test-case-name: tests.workers.test_snapshot -*-
"""
A configuration as it was checked: the file's text and that of the key files it names, so
that a worker which starts later serves what the others serve, whatever the files hold by
then. Secrets of the environment are not in it.

It travels in memory without a name; nothing of it is written to a disk where the system
can do without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.settings import Settings
from gateway.settings.folder import Folder
from gateway.settings.processors import processors
from gateway.settings.reader import load, parse
from gateway.workers.share import memory


class Snapshot:
    """
    @ivar descriptor: where it can be read, by any process that has it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: str, environ: Mapping[str, str]) -> tuple[Settings, Snapshot]:
        """
        Read a configuration.

        @raise SettingsError: with every problem in it.
        """
        text, folder = load(path), Folder(str(Path(path).absolute().parent))
        settings = parse(text, environ, name=path, directory=folder)
        held = {
            "name": path,
            # A worker may be bound to one of them: it can't count them itself.
            "processors": len(processors()),
            "directory": folder.path,
            "text": text,
            "files": {name: raw.decode("latin-1") for name, raw in folder.seen.items()},
        }
        raw = json.dumps(held).encode()
        descriptor = memory(len(raw))
        os.pwrite(descriptor, raw, 0)
        return settings, cls(descriptor)

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """The same settings again."""
        held = json.loads(os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0))
        files = {name: text.encode("latin-1") for name, text in held["files"].items()}
        folder = Folder(held["directory"], files)
        return parse(
            held["text"], environ, name=held["name"], directory=folder,
            processors=held["processors"],
        )  # fmt: skip

    def close(self) -> None:
        """Give the memory back; processes that have it keep it."""
        os.close(self.descriptor)
