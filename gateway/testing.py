# -*- test-case-name: tests.test_testing -*-
"""Doubles of the seams, to inject faults with in tests of those who use them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from gateway.admission.pending import Pending
from gateway.admission.windows import Count
from gateway.interfaces import IBuckets, StoreUnreachable


def counted(outcome: Count | Pending) -> Deferred[Count]:
    """What a store of counters returned, as a Deferred; fails with L{StoreUnreachable}."""
    if isinstance(outcome, Count):
        return succeed(outcome)
    waiting: Deferred[Count] = Deferred()

    def hears(pending: Pending) -> None:
        if pending.count is None:
            waiting.errback(StoreUnreachable(pending.why))
        else:
            waiting.callback(pending.count)

    outcome.then(hears, None)
    return waiting


@implementer(IBuckets)
class FailingBuckets:
    """A store that nobody can reach."""

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Pending:
        """Fails."""
        pending = Pending(rule, key, now, cost)
        pending.fail("nobody can reach it")
        return pending

    def retain(self, rules: Any) -> None:
        """Nothing to forget."""

    def sweep(self, now: int) -> None:
        """Nothing to forget."""


@implementer(IBuckets)
class SlowBuckets:
    """A store that answers when the test says so, in C{waiting}."""

    def __init__(self) -> None:
        self.waiting: list[Pending] = []

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Pending:
        """Waits."""
        self.waiting.append(Pending(rule, key, now, cost))
        return self.waiting[-1]

    def retain(self, rules: Any) -> None:
        """Nothing to forget."""

    def sweep(self, now: int) -> None:
        """Nothing to forget."""
