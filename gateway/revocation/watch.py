# -*- test-case-name: tests.revocation.test_watch -*-
"""
Brings what is revoked anywhere into force here: from the machine's file, which is looked at
twice a second, and through the store that processes share, if there is one. Lets a broken
file pass with what it said before.

What comes from the file is told to the others, and what they tell is kept in the file: each
machine has all of it on disk, whatever becomes of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.revocation.entries import Entry, Revocations, from_json
from gateway.revocation.journal import Journal

#: Seconds between two looks at the file.
LOOK = 0.5

#: The kind of entries in the shared store, and seconds they stay there at most.
_KIND, _LONGEST = "revoked", 3650 * 86400.0

#: What others have told and the disk does not take.
_MOST_UNKEPT = 100_000

#: Looks after which entries that no token can concern are forgotten.
_TIDY = 120


class Watch:
    """
    @param now: the wall clock, unix seconds.
    @param state: what processes tell each other (L{gateway.stores.shared.SharedState}), or
        C{None}.
    @param in_thread: calls what may wait for a disk, and returns a Deferred.
    @param keeps: whether what is heard is written, and what is read told; else only looks.
    """

    _log = Logger()

    def __init__(
        self, revocations: Revocations, journal: Journal, now: Callable[[], float], clock: Any,
        state: Any = None, keeps: bool = True, in_thread: Callable[..., Any] = maybeDeferred,
    ) -> None:  # fmt: skip
        self._revocations = revocations
        self._journal = journal
        self._now = now
        self._state = state
        self._keeps = keeps
        self._in_thread = in_thread
        self._keeping = False
        self._unkept: list[Entry] = []
        self._told_trouble = ""
        self._looks = 0
        self._loop = LoopingCall(self.look)
        self._loop.clock = clock
        if state is not None:
            state.before.append(self.look)
            state.listen(_KIND, self._heard)
        self.look()

    def start(self) -> None:
        """Begin to look."""
        self._loop.start(LOOK, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def look(self) -> None:
        """Learn what is new in the file; keep there what others have told."""
        now = self._now()
        self._looks += 1
        if self._looks % _TIDY == 0:
            self._revocations.forget(now)
        if self._unkept and self._keeps and not self._keeping:
            self._keep(now)
        try:
            if self._journal.changed():
                self._tell(self._revocations.merge(self._journal.news(), now), now)
        except Exception as error:
            # Whatever it is, the next look must come.
            self._trouble("read", error)

    def _keep(self, now: float) -> None:
        """Write what others have told, which may take its time."""
        unkept, self._unkept, self._keeping = self._unkept, [], True

        def kept(_: object) -> None:
            self._keeping = False
            self._told_trouble = ""

        def failed(failure: Failure) -> None:
            self._keeping = False
            self._unkept = (unkept + self._unkept)[:_MOST_UNKEPT]
            self._trouble("kept", failure.value)

        # Its own journal: this one is watching.
        journal = Journal(str(self._journal.path))
        self._in_thread(journal.add, unkept, now).addCallbacks(kept, failed)

    def _trouble(self, what: str, error: BaseException | None) -> None:
        if str(error) != self._told_trouble:
            self._told_trouble = str(error)
            self._log.error("revocations can't be {what}: {error}", what=what, error=error)

    def _tell(self, news: list[Entry], now: float) -> None:
        for entry in news:
            verb = "no longer revoked" if entry.undone else "revoked"
            self._log.info("{verb}: {entry}", verb=verb, entry=str(entry))
            if self._state is not None and self._keeps:
                left = min(entry.until - now, _LONGEST)
                # Each word has an entry of its own: a machine that comes back with an older one
                # in its file must not put it in the place of a later one.
                key = f"{entry.kind}:{entry.value}:{entry.at}:{entry.undone:d}"
                self._state.put(_KIND, key, entry.to_json(), left)

    def _heard(self, _key: str, payload: str, _seconds: float) -> None:
        entry = from_json(payload)
        if entry is None:
            self._log.warn("another process told a revocation that is none")
            return
        news = self._revocations.merge([entry], self._now())
        for each in news:
            verb = "no longer revoked" if each.undone else "revoked"
            self._log.info("{verb} elsewhere: {entry}", verb=verb, entry=str(each))
        self._unkept = (self._unkept + news)[:_MOST_UNKEPT]

