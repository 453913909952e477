"""Tests for gateway.admission.refused: a bounded memory of who sends refused tokens."""

from __future__ import annotations

from gateway.admission.addresses import parse
from gateway.admission.refused import RefusedLimit
from gateway.admission.windows import SlidingWindow
from gateway.stores.memory import MemoryBuckets

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND


def limit(keys: int = 10) -> RefusedLimit:
    """Two refused tokens in a second."""
    return RefusedLimit(SlidingWindow(2, SECOND, "refused"), MemoryBuckets(keys))


def test_only_what_is_refused_counts() -> None:
    """Asking whether an address has room counts nothing; refusals do, until the window has room again."""
    guard = limit()
    assert [guard.exceeded("ip:a", NOW) for _ in range(9)] == [None] * 9
    for _ in range(2):
        assert guard.exceeded("ip:a", NOW) is None
        guard.refused("ip:a", NOW)
    found = guard.exceeded("ip:a", NOW)
    assert found is not None
    assert (found.allowed, found.window.name) == (False, "refused 2/1s")
    assert guard.exceeded("ip:b", NOW) is None
    assert guard.exceeded("ip:a", NOW + found.retry_after * SECOND) is None


def test_one_customers_addresses_are_one() -> None:
    """IPv6 addresses of one /64 share the limit; another /64 has its own."""
    guard = limit()
    one, two, other = (parse(text) for text in ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"))
    assert one is not None
    assert two is not None
    assert other is not None
    for address in (one, two):
        guard.refused(address.limit_key, NOW)
    assert guard.exceeded(two.limit_key, NOW) is not None
    assert guard.exceeded(other.limit_key, NOW) is None


def test_bounded() -> None:
    """When the room is used up, known addresses stay limited and new ones are let verify: nobody is locked out."""
    guard = limit(keys=3)
    for name in "abcdef":
        for _ in range(3):
            guard.refused(f"ip:{name}", NOW)
    assert guard.buckets.size() == 3
    assert [guard.exceeded(f"ip:{name}", NOW) is None for name in "abcdef"] == [False] * 3 + [True] * 3
