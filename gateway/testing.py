# -*- test-case-name: tests.test_testing -*-
"""Doubles of the seams, to inject faults with in tests of those who use them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from gateway.interfaces import IBuckets, StoreUnreachable


@implementer(IBuckets)
class FailingBuckets:
    """A store that nobody can reach."""

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Deferred[Any]:
        """Fails."""
        return fail(StoreUnreachable())

    def retain(self, rules: Any) -> None:
        """Nothing to forget."""

    def sweep(self, now: int) -> None:
        """Nothing to forget."""


@implementer(IBuckets)
class SlowBuckets:
    """A store that answers when the test says so, in C{waiting}."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Deferred[Any]:
        """Waits."""
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def retain(self, rules: Any) -> None:
        """Nothing to forget."""

    def sweep(self, now: int) -> None:
        """Nothing to forget."""
