# -*- test-case-name: tests.issuers.test_source -*-
"""
Keeps one issuer's keys at hand: fetched at the start, before they are needed, and again when
somebody names one that is not known. Lets requests wait for that as
L{gateway.admission.keysets} says; refuses them with 401 or 503 as it says.

An issuer that is away changes nothing while its keys hold; that it is away, and that it is
back, is logged once each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.admission.keysets import KeySet, Missing, Pace
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import SIGNATURE
from gateway.issuers.documents import Keys
from gateway.jwks import NamedKey
from gateway.verdicts import Reason, Refused


class IDocuments(Protocol):
    """Where an issuer's keys come from."""

    def fetch(self) -> Deferred[Keys]:
        """The keys as they are now; fails with a sentence for the log."""


class KeySource:
    """
    @param name: the issuer's, as in its section.
    @param clock: runs timers.
    @param seconds: monotonic seconds.
    @ivar caches: of tokens that were verified with these keys.
    @ivar where: where they were found last.
    @ivar last_error: when a fetch failed last, and why; C{None}: none ever has.
    """

    _log = Logger()

    def __init__(
        self, name: str, documents: IDocuments, pace: Pace, clock: Any,
        seconds: Callable[[], float], chance: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.name = name
        self.keys = KeySet(pace, seconds())
        self.caches: WeakSet[TokenCache] = WeakSet()
        self.where = ""
        self.last_error: tuple[float, str] | None = None
        self._documents = documents
        self._clock = clock
        self._seconds = seconds
        self._chance = chance
        self._timer: Any = None
        self._fetch: Deferred[Any] | None = None
        self._waiters: list[Deferred[None]] = []
        self._running = False
        self._told = ""

    # -- the clockwork

    def start(self) -> None:
        """Fetch, and go on fetching."""
        if not self._running:
            self._running = True
            self._begin()

    def refresh(self) -> None:
        """Fetch now, unless that is under way; the keys go on meanwhile."""
        if self._running and not self.keys.fetching:
            self._begin()

    def stop(self) -> None:
        """Fetch no more; who waits is let go."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._fetch is not None:
            self._fetch.cancel()
        self._release()

    def _begin(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.keys.begin()
        self._fetch = fetch = self._documents.fetch()
        fetch.addCallbacks(self._fetched, self._failed)
        fetch.addErrback(lambda failure: self._log.failure("a key set's fetch failed", failure))
        fetch.addBoth(self._ended)

    def _fetched(self, found: Keys) -> None:
        before, self.where = self.keys.ring, found.source
        gone = self.keys.succeeded(found.ring, found.lifetime, self._seconds(), self._chance())
        self._forget(gone)
        ring = self.keys.ring
        assert ring is not None
        if before is None or gone or len(ring.keys) != len(before.keys):
            named = ", ".join(str(key) for key in ring.keys)
            left = f"; gone: {', '.join(str(key) for key in gone)}" if gone else ""
            self._log.info("issuer {name}: keys {now}{left}", name=self.name, now=named, left=left)
            for problem in ring.problems:
                self._log.warn("issuer {name}: {problem}", name=self.name, problem=problem)
        elif self._told:
            self._log.info("issuer {name}: its keys can be fetched again", name=self.name)
        self._told = ""

    def _failed(self, failure: Failure) -> None:
        now = self._seconds()
        self.keys.failed(now, self._chance())
        says = str(failure.value)
        if not self._running:
            return
        self.last_error = now, says
        if says != self._told:
            self._told = says
            kept = "those known go on" if self.keys.ring is not None else "there are none yet"
            self._log.warn("issuer {name}: its keys can't be fetched: {says}; {kept}",
                           name=self.name, says=says, kept=kept)  # fmt: skip
        gone = self.keys.expire(now)
        if gone:
            self._log.error("issuer {name}: its keys are too old and are given up", name=self.name)
            self._forget(gone)

    def _ended(self, _: object) -> None:
        self._fetch = None
        if self.keys.fetching:  # what came broke us
            self.keys.failed(self._seconds(), self._chance())
        self._release()
        if self._running and self._fetch is None:
            wait = max(0.0, self.keys.due - self._seconds())
            self._timer = self._clock.callLater(wait, self._begin)

    def _forget(self, gone: Sequence[NamedKey]) -> None:
        """Tokens of keys that have gone are refused from now on, however lately they passed."""
        if gone:
            keys = set(gone)
            for cache in self.caches:
                cache.forget(lambda token: token.key in keys)

    # -- requests that wait

    def ask(self, _raw: bytes, waited: float) -> Deferred[None] | Refused:
        """See L{gateway.admission.tokens.Unsettled}."""
        now = self._seconds()
        # One that has been replaced in a reload asks nobody any more.
        verdict = self.keys.missing(now, waited if self._running else math.inf)
        if verdict is Missing.REFUSED:
            return SIGNATURE
        if verdict is Missing.UNAVAILABLE:
            return Refused(Reason.KEYS, max(1, math.ceil(self.keys.due - now)))
        waiter: Deferred[None] = Deferred(self._gave_up)
        self._waiters.append(waiter)
        late = self._clock.callLater(self.keys.pace.patience - waited, self._late, waiter)
        waiter.addBoth(_disarm, late)
        if verdict is Missing.FETCH:
            self._begin()
        return waiter

    def _release(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self.keys.left()
            waiter.callback(None)

    def _late(self, waiter: Deferred[None]) -> None:
        self._waiters.remove(waiter)
        self.keys.left()
        waiter.callback(None)

    def _gave_up(self, waiter: Deferred[None]) -> None:
        """The client has gone."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self.keys.left()


def _disarm(result: Any, timer: Any) -> Any:
    if timer.active():
        timer.cancel()
    return result
