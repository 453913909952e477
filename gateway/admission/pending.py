# -*- test-case-name: tests.admission.test_pending -*-
"""
A count that is not known yet: lets one request hear of it once, as soon as it is.

It is what a Deferred would be, less what costs time here: one per request, no chain, no
failures. Who can't say says C{None}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.admission.windows import Count


class Pending:
    """
    What was asked, and by whom.

    @ivar otherwise: decides when the store can't say: called with this and why; C{None} when
        nobody does.
    @ivar request: whose it is, given to L{then}; C{context} likewise.
    @ivar count: the outcome, once it is C{done}; C{None} when nobody can say, for C{why}.
    """

    __slots__ = (
        "_hears", "context", "cost", "count", "done", "key", "now", "otherwise", "request", "rule",
        "why",
    )  # fmt: skip

    def __init__(self, rule: Any, key: str, now: int, cost: int) -> None:
        self.rule = rule
        self.key = key
        self.now = now
        self.cost = cost
        self.otherwise: Callable[[Pending, str], Count] | None = None
        self.request: Any = None
        self.context: Any = None
        self.count: Count | None = None
        self.done = False
        self.why = ""
        self._hears: Callable[[Pending], object] | None = None

    def then(self, hears: Callable[[Pending], object], request: Any, context: Any = None) -> None:
        """Have C{hears} called with this once it is C{done}; now, if it is."""
        self.request = request
        self.context = context
        if self.done:
            hears(self)
        else:
            self._hears = hears

    def forget(self, _why: str = "") -> None:
        """The request is gone: nobody is to hear."""
        self._hears = None

    def settle(self, count: Count | None) -> None:
        """The outcome; only the first one counts."""
        if self.done:
            return
        self.done = True
        self.count = count
        hears, self._hears = self._hears, None
        if hears is not None:
            hears(self)

    def fail(self, why: str) -> None:
        """The store can't say."""
        if not self.done:
            self.why = why
            self.settle(None if self.otherwise is None else self.otherwise(self, why))
