"""What every store of counters must do; mixed into a test class for each of them."""

from __future__ import annotations

from gateway.admission.windows import Combined, SlidingWindow
from gateway.interfaces import IBuckets

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND


class BucketsContract:
    """Subclasses make C{buckets(keys)}."""

    def buckets(self, keys: int = 100) -> IBuckets:
        """A new store."""
        raise NotImplementedError

    def test_counts_each_key_alone(self) -> None:
        """One user's requests are not another's."""
        store, rule = self.buckets(), SlidingWindow(2, SECOND)
        assert [store.take(rule, "sub:a", NOW).allowed for _ in range(3)] == [True, True, False]
        assert store.take(rule, "sub:b", NOW).allowed

    def test_counts_each_rule_alone(self) -> None:
        """A route with a limit of its own has a counter of its own."""
        store = self.buckets()
        one, two = SlidingWindow(1, SECOND), SlidingWindow(1, SECOND, "/own")
        assert store.take(one, "sub:a", NOW).allowed
        assert store.take(two, "sub:a", NOW).allowed
        assert not store.take(one, "sub:a", NOW).allowed

    def test_counts_a_cost(self) -> None:
        """A request counts as its cost; one too dear for what is left counts as nothing."""
        store, rule = self.buckets(), SlidingWindow(5, SECOND)
        counts = [store.take(rule, "sub:a", NOW, cost) for cost in (3, 3, 2, 1)]
        assert [count.allowed for count in counts] == [True, False, True, False]
        assert [count.remaining for count in counts] == [2, 0, 0, 0]

    def test_several_windows_are_one_decision(self) -> None:
        """A request refused by one window counts in none of them; the answer names the one that refuses."""
        store = self.buckets()
        rule = Combined([SlidingWindow(2, SECOND), SlidingWindow(3, 60 * SECOND)])
        counts = [store.take(rule, "sub:a", NOW) for _ in range(4)]
        assert [count.allowed for count in counts] == [True, True, False, False]
        assert [count.window.name for count in counts] == ["2/1s", "2/1s", "2/1s", "2/1s"]
        later = [store.take(rule, "sub:a", NOW + 2 * SECOND) for _ in range(2)]
        assert [(count.allowed, count.window.name) for count in later] == [(True, "3/60s"), (False, "3/60s")]

    def test_forgets_with_time(self) -> None:
        """After a window there is room again."""
        store, rule = self.buckets(), SlidingWindow(1, SECOND)
        assert store.take(rule, "sub:a", NOW).allowed
        assert store.take(rule, "sub:a", NOW + 2 * SECOND).allowed
