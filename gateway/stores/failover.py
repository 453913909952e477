# -*- test-case-name: tests.stores.test_failover -*-
"""
What becomes of requests while the shared store can't be asked: C{local} lets pass what this
process's share of the limit allows, C{open} everything, C{closed} nothing.

A breaker stands before the store: the first request that gets no answer opens it, all others
are decided at once. Trials in the background, at intervals that differ from process to
process, close it again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from twisted.logger import Logger
from zope.interface import implementer

from gateway.admission.pending import Pending
from gateway.admission.windows import Combined, Count, FixedWindow, Gcra, SlidingWindow
from gateway.interfaces import IBuckets
from gateway.stores.memory import MemoryBuckets

#: Seconds between two trials; the longer one when it fails again soon after it came back.
REST, LONG_REST = 0.25, 1.0

#: Seconds: what fails again within them is unsteady.
SOON = 10.0


class Remote(Protocol):
    """A store that can fail, such as L{gateway.stores.redis.RedisBuckets}."""

    on_ready: Any
    on_lost: Any

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Any:
        """See L{IBuckets.take}."""

    def retain(self, rules: Any) -> None:
        """See L{IBuckets.retain}."""

    def probe(self) -> Pending:
        """Its count is C{None} when the store does not count; in time."""


@implementer(IBuckets)
class Failover:
    """
    @param local: counters of this process, used while the store can't be asked.
    @param policies: by rules' ids, where they differ from C{policy}.
    @param share: among how many processes a limit is divided meanwhile.
    @param name: the store's, for the log; without secrets.
    @ivar down: whether requests are decided without the store now.
    @ivar failures: how often that has begun.
    @ivar decided: how many requests were decided so, by policy.
    """

    _log = Logger()

    def __init__(
        self,
        remote: Remote,
        local: MemoryBuckets,
        clock: Any,
        policy: str = "local",
        policies: Mapping[bytes, str] | None = None,
        share: int = 1,
        name: str = "the store",
    ) -> None:
        self._remote = remote
        self._local = local
        self._clock = clock
        self._policy = policy
        self._policies = dict(policies or {})
        self._share = share
        self._name = name
        self._shares: dict[bytes, tuple[Any, Any]] = {}
        self._call: Any = None
        self._trying = False
        self._rest = REST
        self._since = 0.0
        self._back_at = -SOON
        self.down = False
        self.failures = 0
        self.decided = {"local": 0, "open": 0, "closed": 0}
        self._otherwise = self._unanswered  # bound once
        remote.on_ready = self._ready
        remote.on_lost = self._gone

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Any:
        """See L{IBuckets.take}; there is always a count."""
        if self.down:
            return self._decide(rule, key, now, cost)
        counting = self._remote.take(rule, key, now, cost)
        if type(counting) is Pending:
            if counting.done and counting.count is None:
                return self._unanswered(counting, "it takes no more")
            counting.otherwise = self._otherwise
        return counting

    def sweep(self, now: int) -> None:
        """Forget local counters that have expired."""
        self._local.sweep(now)

    def retain(self, rules: Iterable[Any]) -> None:
        """See L{IBuckets.retain}."""
        kept = set(rules)
        self._shares = {name: pair for name, pair in self._shares.items() if pair[0] in kept}
        self._local.retain([share for _, share in self._shares.values()])
        self._remote.retain(kept)

    def resize(self, keys: int) -> None:
        """See L{MemoryBuckets.resize}: the local counters."""
        self._local.resize(keys)

    def reconfigure(self, policy: str, policies: Mapping[bytes, str], share: int) -> None:
        """Other settings hold from now on; counters, and whether the store is used, stay."""
        self._policy, self._policies = policy, dict(policies)
        if share != self._share:
            self._share = share
            self._shares.clear()

    def stop(self) -> None:
        """Try no more."""
        self._remote.on_ready = self._remote.on_lost = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    # -- without the store

    def _unanswered(self, asked: Pending, why: str) -> Count:
        self._gone(why)
        return self._decide(asked.rule, asked.key, asked.now, asked.cost)

    def _decide(self, rule: Any, key: str, now: int, cost: int) -> Count:
        policy = self._policies.get(rule.id, self._policy)
        self.decided[policy] += 1
        if policy == "local":
            share = self._share_of(rule)
            # What costs more than the share would never pass: it takes all of it.
            count: Count = self._local.take(share, key, now, min(cost, share.most))
            return count._replace(note=policy)
        window = rule.windows[0]
        return Count(policy == "open", window, 0, now // 1_000_000 + 1, 1, note=policy)

    def _share_of(self, rule: Any) -> Any:
        known, share = self._shares.get(rule.id, (None, None))
        if known is not rule:
            share = rule if self._share == 1 else share_of(rule, self._share)
            self._shares[rule.id] = rule, share
        return share

    # -- the breaker

    def _gone(self, why: str) -> None:
        if not self.down:
            self._leave(why)

    def _leave(self, why: str) -> None:
        now = self._clock.seconds()
        self.down = True
        self.failures += 1
        self._since = now
        self._rest = min(LONG_REST, self._rest * 2) if now - self._back_at < SOON else REST
        self._log.error(
            "{name} can't be used: {why}; on_store_failure decides ({policy})",
            name=self._name, why=why, policy=self._policy,
        )  # fmt: skip
        self._later()

    def _later(self) -> None:
        if self._call is None:
            rest = self._rest * random.uniform(0.75, 1.25)  # noqa: S311
            self._call = self._clock.callLater(rest, self._try)

    def _ready(self) -> None:
        """There is a new connection: no need to wait."""
        if self.down and not self._trying:
            if self._call is not None:
                self._call.cancel()
            self._try()

    def _try(self) -> None:
        self._call = None
        if self._trying:
            return
        self._trying = True
        self._remote.probe().then(self._tried, None)

    def _tried(self, trial: Pending) -> None:
        self._trying = False
        if trial.count is not None:
            self._back()
        elif self._remote.on_ready is not None:
            self._later()

    def _back(self) -> None:
        now = self._clock.seconds()
        self.down = False
        self._back_at = now
        self._log.info(
            "{name} is used again after {seconds:.1f} s",
            name=self._name, seconds=now - self._since,
        )  # fmt: skip


def share_of(rule: Any, share: int) -> Any:
    """The rule of one among so many processes: max(1, limit / share) in each window."""
    windows = [_part(window, share) for window in rule.windows]
    if len(windows) == 1:
        return windows[0]
    return Combined(windows, _tells_policies(rule.windows[0]))


def _part(window: Any, share: int) -> Any:
    limit, ietf = max(1, window.limit // share), _tells_policies(window)
    if isinstance(window, Gcra):
        burst = max(1, window.burst // share)
        return Gcra(limit, window.window, burst, window.owner, ietf)
    kind = SlidingWindow if isinstance(window, SlidingWindow) else FixedWindow
    return kind(limit, window.window, window.owner, ietf)


def _tells_policies(window: Any) -> bool:
    return b"RateLimit-Policy" in window.lines
