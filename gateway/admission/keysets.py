# -*- test-case-name: tests.admission.test_keysets -*-
"""
What is known of one issuer's keys, when to fetch them, and who waits for that.

Lets a request wait for keys that a fetch may bring, so many at a time and so long at most;
refuses the others at once: with 401 where the issuer's keys are known, 503 where they never
were. However many strangers name keys that nobody has heard of, there is one fetch for them
in an interval (CVE-2026-48524).

Knows no clock and no network: time is an argument, in monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.jwks import KeyRing, NamedKey

#: Lifetime of keys whose issuer does not say one.
UNSAID = 3600.0

#: Seconds before the first repetition of a failed fetch; twice as many before each further.
FIRST_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How often keys are fetched, all in seconds.

    @ivar least: keys are not fetched anew before that, whatever their issuer says,
    @ivar most: and are after that.
    @ivar interval: between two fetches for keys that are not known.
    @ivar keep: how long keys are used after the last fetch that succeeded.
    @ivar waiting: requests that may wait for one fetch,
    @ivar patience: and how long each.
    """

    least: float = 60.0
    most: float = 86400.0
    interval: float = 10.0
    keep: float = 86400.0
    waiting: int = 100
    patience: float = 1.0


class Missing(Enum):
    """What becomes of a request whose key is not known."""

    FETCH = "begin a fetch, and wait for it"
    WAIT = "wait for the fetch that is under way"
    REFUSED = "401: the key is not among those known"
    UNAVAILABLE = "503: none are known"


class KeySet:
    """
    One issuer's keys.

    @ivar ring: the keys; C{None}: none are known.
    @ivar fetched: when they were fetched last.
    @ivar due: when to fetch them next, unless C{fetching}.
    @ivar failures: fetches that failed since one succeeded.
    @ivar waiting: requests that wait.
    """

    def __init__(self, pace: Pace, now: float = 0.0) -> None:
        self.pace = pace
        self.ring: KeyRing | None = None
        self.fetched = now
        self.due = now
        self.fetching = False
        self.failures = 0
        self.waiting = 0
        self._asked = float("-inf")

    @property
    def asks_again(self) -> float:
        """Until then nobody's unknown key makes a fetch."""
        return self._asked + self.pace.interval

    def begin(self) -> None:
        """A fetch begins."""
        self.fetching = True

    def succeeded(
        self, ring: KeyRing, lifetime: float | None, now: float, jitter: float
    ) -> Sequence[NamedKey]:
        """
        These are the keys.

        @param lifetime: what their issuer says, C{None} if nothing.
        @param jitter: from 0 to 1, by chance: not all gateways ask at one moment.
        @return: those that have gone.
        """
        before, self.ring = self.ring, ring.like(self.ring)
        self.fetching = False
        self.failures = 0
        self.fetched = now
        said = UNSAID if lifetime is None else lifetime
        bounded = max(self.pace.least, min(self.pace.most, said))
        # At 80 % of their life at the latest, so that an outage finds them fresh.
        self.due = now + bounded * (0.8 - 0.1 * jitter)
        return _gone(before, self.ring)

    def failed(self, now: float, jitter: float) -> None:
        """The fetch has failed: again soon, then ever more rarely."""
        self.fetching = False
        self.failures += 1
        wait = min(FIRST_RETRY * 2.0 ** min(self.failures - 1, 20), self.pace.least)
        self.due = now + wait * (1.0 - 0.2 * jitter)

    def expire(self, now: float) -> Sequence[NamedKey]:
        """Give keys up that could not be fetched for too long; those that have gone."""
        if self.ring is None or now < self.fetched + self.pace.keep:
            return ()
        before, self.ring = self.ring, None
        return before.keys

    def missing(self, now: float, waited: float = 0.0) -> Missing:
        """
        Somebody names a key that is not here. Who is told to wait has a place until L{left}.

        @param waited: for how long that request has waited already.
        """
        refused = Missing.UNAVAILABLE if self.ring is None else Missing.REFUSED
        if waited >= self.pace.patience or self.waiting >= self.pace.waiting:
            return refused
        if self.fetching:
            self.waiting += 1
            return Missing.WAIT
        # Where there are none, the repetitions of the failed fetch go on by themselves.
        if self.ring is None or now < self._asked + self.pace.interval:
            return refused
        self._asked = now
        self.waiting += 1
        return Missing.FETCH

    def left(self) -> None:
        """Somebody waits no longer."""
        self.waiting -= 1


def _gone(before: KeyRing | None, after: KeyRing) -> Sequence[NamedKey]:
    stay = set(after.keys)
    return [key for key in before.keys if key not in stay] if before is not None else ()
