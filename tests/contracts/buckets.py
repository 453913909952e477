"""What every store of counters must do; mixed into a test class for each of them."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from gateway.admission.windows import Combined, Count, FixedWindow, Gcra, SlidingWindow
from gateway.interfaces import IBuckets
from gateway.testing import counted

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND


class BucketsContract:
    """Subclasses make C{buckets(keys)}, and C{at} where the store has a clock of its own."""

    def buckets(self, keys: int = 100) -> IBuckets:
        """A new store."""
        raise NotImplementedError

    def at(self, now: int) -> None:
        """Set the store's clock."""

    async def take(self, store: IBuckets, rule: Any, key: str, now: int, cost: int = 1) -> Count:
        """One request, whether the store knows at once or later."""
        self.at(now)
        count = await counted(store.take(rule, key, now, cost))
        assert isinstance(count, Count)
        return count

    @pytest_twisted.ensureDeferred
    async def test_counts_each_key_alone(self) -> None:
        """One user's requests are not another's."""
        store, rule = self.buckets(), SlidingWindow(2, SECOND)
        found = [(await self.take(store, rule, "sub:a", NOW)).allowed for _ in range(3)]
        assert found == [True, True, False]
        assert (await self.take(store, rule, "sub:b", NOW)).allowed

    @pytest_twisted.ensureDeferred
    async def test_counts_each_rule_alone(self) -> None:
        """A route with a limit of its own has a counter of its own."""
        store = self.buckets()
        one, two = SlidingWindow(1, SECOND), SlidingWindow(1, SECOND, "/own")
        assert (await self.take(store, one, "sub:a", NOW)).allowed
        assert (await self.take(store, two, "sub:a", NOW)).allowed
        assert not (await self.take(store, one, "sub:a", NOW)).allowed

    @pytest_twisted.ensureDeferred
    async def test_forgets_with_time(self) -> None:
        """After a window there is room again."""
        store, rule = self.buckets(), SlidingWindow(1, SECOND)
        assert (await self.take(store, rule, "sub:a", NOW)).allowed
        assert (await self.take(store, rule, "sub:a", NOW + 2 * SECOND)).allowed

    @pytest_twisted.ensureDeferred
    async def test_a_cost_counts_as_so_many(self) -> None:
        """An expensive request counts as several; one too expensive for what is left counts as none."""
        store, rule = self.buckets(), FixedWindow(5, 60 * SECOND)
        assert (await self.take(store, rule, "sub:a", NOW, 3)).remaining == 2
        assert not (await self.take(store, rule, "sub:a", NOW, 3)).allowed
        assert (await self.take(store, rule, "sub:a", NOW, 2)).remaining == 0

    @pytest_twisted.ensureDeferred
    async def test_several_windows_all_or_nothing(self) -> None:
        """With several windows each must have room, and a refused request counts in none."""
        store = self.buckets()
        rule = Combined([Gcra(2, SECOND, 2), SlidingWindow(3, 60 * SECOND)])
        found = [await self.take(store, rule, "sub:a", NOW) for _ in range(3)]
        assert [count.allowed for count in found] == [True, True, False]
        assert found[2].limit == 2
        later = await self.take(store, rule, "sub:a", NOW + SECOND)
        assert (later.allowed, later.remaining, later.limit) == (True, 0, 3)
        last = await self.take(store, rule, "sub:a", NOW + 2 * SECOND)
        assert (last.allowed, last.limit) == (False, 3)

    @pytest_twisted.ensureDeferred
    async def test_several_windows_are_one_decision(self) -> None:
        """A request refused by one window counts in none of them; the answer names the one that refuses."""
        store = self.buckets()
        rule = Combined([SlidingWindow(2, SECOND), SlidingWindow(3, 60 * SECOND)])
        counts = [await self.take(store, rule, "sub:a", NOW) for _ in range(4)]
        assert [count.allowed for count in counts] == [True, True, False, False]
        assert [count.window.name for count in counts] == ["2/1s", "2/1s", "2/1s", "2/1s"]
        later = [await self.take(store, rule, "sub:a", NOW + 2 * SECOND) for _ in range(2)]
        assert [(count.allowed, count.window.name) for count in later] == [(True, "3/60s"), (False, "3/60s")]

    @pytest_twisted.ensureDeferred
    async def test_strange_keys(self) -> None:
        """Whatever a claim holds, it is a key of its own."""
        store, rule = self.buckets(), FixedWindow(1, 60 * SECOND)
        keys = ["sub:", "sub:é", "sub:{x}", "sub:a b", "sub:a\r\nb", "sub:\x00", "sub:" + "x" * 512]
        for key in keys:
            assert (await self.take(store, rule, key, NOW)).allowed
        for key in keys:
            assert not (await self.take(store, rule, key, NOW)).allowed
