# -*- test-case-name: tests.admission.test_refused -*-
"""
Lets an address have its tokens verified while not too many of them were refused; refuses
the next ones unverified (429) until the window has room again.

Verifying costs more than anything else a stranger can ask for. Only what is refused
counts, so that good tokens never use the limit up.
"""

from __future__ import annotations

from gateway.admission.windows import Count, Rule
from gateway.stores.memory import MemoryBuckets


class RefusedLimit:
    """
    @param buckets: its own: strangers' addresses take no room from users' counters. When
        there is none for another address, its tokens are verified and not counted.
    """

    def __init__(self, rule: Rule, buckets: MemoryBuckets) -> None:
        self._rule = rule
        self.buckets = buckets

    def exceeded(self, key: str, now: int) -> Count | None:
        """The refusal, if the address C{key} has no room; C{now} is unix microseconds."""
        count = self.buckets.peek(self._rule, key, now)
        return None if count.allowed else count

    def refused(self, key: str, now: int) -> None:
        """Count a refused token."""
        self.buckets.take(self._rule, key, now)
