"""Tests for gateway.stores.memory."""

from __future__ import annotations

import itertools
import random

from gateway.admission.windows import Combined, FixedWindow, SlidingWindow
from gateway.interfaces import IBuckets
from gateway.stores.memory import REST, MemoryBuckets
from tests.contracts.buckets import NOW, SECOND, BucketsContract


class TestContract(BucketsContract):
    """The contract of all stores."""

    def buckets(self, keys: int = 100) -> IBuckets:
        return MemoryBuckets(keys)


def test_full_means_no_new_key() -> None:
    """A new key beyond the bound is refused and counted; live ones go on and none is forgotten."""
    store, rule = MemoryBuckets(3), SlidingWindow(5, 60 * SECOND)
    for name in "abc":
        assert store.take(rule, name, NOW).remaining == 4
    refused = store.take(rule, "d", NOW)
    assert (refused.allowed, refused.full, refused.retry_after) == (False, True, 1)
    assert store.refused_new_keys == 1
    assert [store.take(rule, name, NOW).remaining for name in "abc"] == [3, 3, 3]


def test_room_when_something_expires() -> None:
    """As soon as a key has expired a new one finds room."""
    store, rule = MemoryBuckets(3), SlidingWindow(5, SECOND)
    for name in "abc":
        store.take(rule, name, NOW)
    assert store.take(rule, "d", NOW).full
    assert store.take(rule, "d", NOW + 3 * SECOND).allowed


def test_the_bound_is_over_all_rules() -> None:
    """Routes with counters of their own share the room."""
    store = MemoryBuckets(4)
    rules = [SlidingWindow(5, SECOND), FixedWindow(5, SECOND), SlidingWindow(5, SECOND)]
    passed = sum(store.take(rule, str(n), NOW).allowed for rule in rules for n in range(4))
    assert (passed, store.size()) == (4, 4)


def test_sweeping_finds_everything_in_slices() -> None:
    """A sweep looks at no more than its slice; enough of them find every expired key."""
    store, short, long = MemoryBuckets(10_000), SlidingWindow(5, SECOND), SlidingWindow(5, 600 * SECOND)
    for number in range(3000):
        store.take(short if number % 2 else long, str(number), NOW)
    later = NOW + 5 * SECOND
    sizes = []
    for _ in range(10):
        store.sweep(later, 1000)
        sizes.append(store.size())
    assert all(before - after <= 1000 for before, after in itertools.pairwise(sizes))
    assert sizes[-1] == 1500


def test_strangers_buy_no_cpu_time() -> None:
    """When full, made-up keys do not make the store search again and again."""
    store, rule = MemoryBuckets(100), SlidingWindow(5, 60 * SECOND)
    for number in range(100):
        store.take(rule, str(number), NOW)
    looked = 0
    sweep = store.sweep

    def counting(now: int, at_most: int = 1000) -> None:
        nonlocal looked
        looked += 1
        sweep(now, at_most)

    store.sweep = counting  # type: ignore[method-assign]
    for number in range(1000):
        store.take(rule, f"new-{number}", NOW + number)
    assert looked <= 1 + 1000 // REST + 1


def test_random_use_never_exceeds_the_bound() -> None:
    """Whatever comes, no more keys are held than there is room for."""
    rng, store, rule = random.Random(4), MemoryBuckets(50), FixedWindow(2, SECOND)
    now = NOW
    for _ in range(5000):
        now += rng.randrange(50_000)
        store.take(rule, str(rng.randrange(200)), now)
        if rng.random() < 0.1:
            store.sweep(now, 7)
        assert store.size() <= 50
        assert store.size() == sum(len(table) for shards in store.counters.values() for table in shards)


def test_a_look_counts_nothing() -> None:
    """A look says what a request would meet, and takes neither a count nor room."""
    store, rule = MemoryBuckets(3), SlidingWindow(2, SECOND)
    assert store.peek(rule, "a", NOW).remaining == 1
    assert store.size() == 0
    assert store.take(rule, "a", NOW).remaining == 1
    assert [store.peek(rule, "a", NOW, cost).allowed for cost in (1, 1, 2)] == [True, True, False]
    assert store.take(rule, "a", NOW).remaining == 0


def test_several_windows_are_forgotten_together() -> None:
    """A key of several windows is kept until the longest of them is empty."""
    store, rule = MemoryBuckets(3), Combined([SlidingWindow(2, SECOND), SlidingWindow(3, 60 * SECOND)])
    store.take(rule, "a", NOW)
    for later, size in ((2, 1), (50, 1), (70, 0)):
        store.sweep(NOW + later * SECOND)
        assert store.size() == size
