# -*- test-case-name: tests.stores.test_memory -*-
"""
Counters in this process: lets as many keys in as there is room for; a new key beyond
that is refused and counted, and no live one is forgotten for it.

Expired keys leave in slices, a few looked at in each second and a few for each new key,
never in one long pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from zope.interface import implementer

from gateway.admission.windows import Count, Rule
from gateway.interfaces import IBuckets

#: Keys looked at in one sweep; a million keys are gone through in a quarter of an hour.
SLICE = 1000

#: Tables a rule's keys are spread over, so that the sweep copies a small one at a time.
SHARDS = 64

#: Microseconds between two vain searches for room: strangers must not buy CPU time.
REST = 10_000


@implementer(IBuckets)
class MemoryBuckets:
    """
    @param keys: how many keys there is room for, all rules together.
    @ivar refused_new_keys: how many times there was no room.
    @ivar counters: the states by rule, and by key in as many tables as there are L{SHARDS}.
    """

    def __init__(self, keys: int) -> None:
        self._room = keys
        self.counters: dict[Rule, list[dict[str, list[Any]]]] = {}
        self._held = 0
        self._cursor = self._turn()
        self._searched = -REST
        self.refused_new_keys = 0

    def take(self, rule: Rule, key: str, now: int, cost: int = 1) -> Count:
        """See L{IBuckets.take}; always known at once."""
        shards = self.counters.get(rule)
        if shards is None:
            shards = self.counters[rule] = [{} for _ in range(SHARDS)]
        table = shards[hash(key) % SHARDS]
        state = table.get(key)
        if state is not None:
            return rule.count(state, now, cost)
        if self._held >= self._room:
            self._make_room(now)
            if self._held >= self._room:
                self.refused_new_keys += 1
                return Count(False, rule.windows[0], 0, -(-now // 1_000_000) + 1, 1, full=True)
        table[key], count = rule.take(None, now, cost)
        self._held += 1
        return count

    def peek(self, rule: Rule, key: str, now: int, cost: int = 1) -> Count:
        """What L{take} would say of a key that has room; nothing is counted."""
        shards = self.counters.get(rule)
        state = None if shards is None else shards[hash(key) % SHARDS].get(key)
        return rule.peek(state, now, cost)

    def sweep(self, now: int, at_most: int = SLICE) -> None:
        """Look at the next few keys and forget the expired ones."""
        for _ in range(min(at_most, self._held)):
            following = next(self._cursor, None)
            if following is None:
                self._cursor = self._turn()
                following = next(self._cursor, None)
                if following is None:
                    return
            rule, table, key = following
            state = table.get(key)
            if state is not None and rule.expired(state, now):
                del table[key]
                self._held -= 1

    def retain(self, rules: Iterable[Rule]) -> None:
        """See L{IBuckets.retain}."""
        kept = set(rules)
        for rule in [rule for rule in self.counters if rule not in kept]:
            self._held -= sum(len(table) for table in self.counters.pop(rule))
        self._cursor = self._turn()  # the old one looks into tables that have gone

    def resize(self, keys: int) -> None:
        """Room for so many keys from now on; none is forgotten where there are more."""
        self._room = keys

    def size(self) -> int:
        """Keys held."""
        return self._held

    def _make_room(self, now: int) -> None:
        if abs(now - self._searched) >= REST:
            self.sweep(now)
            if self._held >= self._room:
                self._searched = now

    def _turn(self) -> Iterator[tuple[Rule, dict[str, list[Any]], str]]:
        """One turn through all keys."""
        for rule, shards in list(self.counters.items()):
            for table in shards:
                for key in list(table):
                    yield rule, table, key
