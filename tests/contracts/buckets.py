"""What every store of counters must do; mixed into a test class for each of them."""

from __future__ import annotations

from gateway.admission.windows import SlidingWindow
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

    def test_forgets_with_time(self) -> None:
        """After a window there is room again."""
        store, rule = self.buckets(), SlidingWindow(1, SECOND)
        assert store.take(rule, "sub:a", NOW).allowed
        assert store.take(rule, "sub:a", NOW + 2 * SECOND).allowed
