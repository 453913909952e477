# -*- test-case-name: tests.test_keywatch -*-
"""
Lets another file of API keys hold within a second of its change; a broken or a vanished one
leaves the keys as they were, and is told to the log once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from gateway.admission.apikeys import KeyRules, Keys
from gateway.keyfile import BadKeys, load

#: Larger files are read in a thread.
LARGE = 64 * 1024

#: A file's time, size and place: when one of them changes, it is another file.
Mark = tuple[int, int, int]


class KeyFile:
    """
    The keys that hold now.

    @param in_thread: calls a function in a thread and returns a Deferred, for large files.
    @ivar keys: replaced as a whole when the file has changed.
    @ivar problem: why they are not what stands in the file; empty: they are.
    """

    _log = Logger()

    def __init__(self, path: str, rules: KeyRules, in_thread: Callable[..., Any]) -> None:
        self.path = path
        self._rules = rules
        self._in_thread = in_thread
        self._reading = False
        self._mark = self._look()
        self._since = time.time()
        self.problem = ""
        self.keys = Keys({}, rules)
        if self._mark is not None:
            try:
                self.keys = load(path, rules)
            except BadKeys as error:
                # It was right when the configuration was checked: nobody comes in by it.
                self.problem = str(error)
                self._log.error("API keys: {error}; there are none", error=error)

    def look(self) -> None:
        """Called every second: read the file again if it is another one."""
        if self._reading:
            return
        mark = self._look()
        if mark == self._mark:
            return
        self._mark = mark
        if mark is None:
            self.problem = f"{self.path} is gone"
            self._log.error("API keys: {path} is gone; the keys stay as they were", path=self.path)
        elif mark[1] <= LARGE:
            try:
                self._replace(load(self.path, self._rules))
            except BadKeys as error:
                self._broken(error)
        else:
            self._reading = True
            done = self._in_thread(load, self.path, self._rules)
            done.addCallbacks(self._replace, lambda failure: self._broken(failure.value))
            done.addBoth(self._read)

    def _read(self, _result: object) -> None:
        self._reading = False

    def _replace(self, keys: Keys) -> None:
        self.keys = keys
        self._since = time.time()
        self.problem = ""
        self._log.info("API keys: {count} read from {path}", count=len(keys), path=self.path)

    def _broken(self, error: Exception) -> None:
        self.problem = str(error)
        self._log.error("API keys: {error}; the keys stay as they were", error=error)

    def rules(self) -> set[Any]:
        """The rules of the keys' own limits."""
        made = self._rules.limits
        if made is None:
            return set()
        made.keep(self.keys.limits)
        return made.all()

    def state(self) -> dict[str, Any]:
        """What there is to say of them, for C{gateway keys}."""
        return {
            "set": "apikeys", "source": os.path.abspath(self.path),  # noqa: PTH100
            "count": len(self.keys), "since": self._since, "problem": self.problem,
        }  # fmt: skip

    def _look(self) -> Mark | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
