# -*- test-case-name: tests.system.test_keys -*-
"""
Has what this process knows of its keys posted within a second of its change: each issuer's
set, the key of [jwt], the file of API keys. Lets requests go on meanwhile, and a disk that
takes nothing pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.issuers.posted import Posted, place
from gateway.issuers.sources import Sources
from gateway.issuers.state import LocalKey, mark, state
from gateway.keywatch import KeyFile
from gateway.settings import GatewaySettings, Settings


class Telling:
    """
    @param worker: which one this is; 0: there is but one process.
    @param in_thread: calls a function in a thread and returns a Deferred.
    @param seconds: monotonic seconds.
    @param now: the wall clock, unix seconds.
    """

    _log = Logger()

    def __init__(
        self, gateway: GatewaySettings, worker: int, in_thread: Callable[..., Any],
        seconds: Callable[[], float], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._posted = Posted(*place(gateway))
        self._worker = worker
        self._in_thread = in_thread
        self._seconds = seconds
        self._now = now
        self._local = LocalKey()
        self._mark: Any = None
        self._writing = False
        self._told = ""
        self._started = now()

    def look(self, settings: Settings, sources: Sources, keys: KeyFile | None) -> None:
        """Called every second: post it again if there is something new to say."""
        if self._writing:
            return
        self._local.look(settings.jwt, self._now())
        known = [mark(source) for source in sources.issuers.values()]
        file = (id(keys), id(keys.keys), keys.problem) if keys is not None else None
        new = (known, file, self._local.generation, settings.jwt.key_file)
        if new == self._mark:
            return
        self._mark = new
        self._writing = True
        done = self._in_thread(self._posted.write, self._all(settings, sources, keys))
        done.addCallbacks(self._written, self._failed)

    def _all(self, settings: Settings, sources: Sources, keys: KeyFile | None) -> dict[str, Any]:
        now, seconds = self._now(), self._seconds()
        sets = [
            state(issuer, source, lambda at: now - seconds + at, seconds)
            for issuer, source in sources.issuers.items()
        ]
        if settings.jwt.has_key:
            sets.append(self._local.state(settings.jwt))
        if keys is not None:
            sets.append(keys.state())
        return {
            "pid": os.getpid(), "worker": self._worker, "started": self._started, "at": now,
            "sets": sets,
        }  # fmt: skip

    def _written(self, _: object) -> None:
        self._writing = False
        self._told = ""

    def _failed(self, failure: Failure) -> None:
        self._writing = False
        self._mark = None
        says = failure.getErrorMessage()
        if says != self._told:
            self._told = says
            self._log.warn("gateway keys will not know of this process: {says}", says=says)

    def stop(self) -> Any:
        """Post nothing any more; fires when nothing is left."""
        self._writing = True
        return self._in_thread(self._posted.remove).addErrback(lambda _: None)
