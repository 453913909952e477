"""Tests for gateway.admission.replays: once in a proof's life, within bounds, here and in a shared store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.pending import Pending
from gateway.admission.replays import SHARE, SKEW, Replays, replay_rule
from gateway.stores.memory import MemoryBuckets
from gateway.testing import SlowBuckets

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
LIFE = 65.0


def replays(room: int = 1000) -> Replays:
    """A memory of its own."""
    return Replays(replay_rule(LIFE), room)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=60))
def test_never_twice_in_a_life(calls: list[tuple[int, int]]) -> None:
    """A proof passes exactly if it has not passed within its life, however often it is tried."""
    memory, passed, now = replays(), {}, NOW  # type: ignore[var-annotated]
    for proof, later in calls:
        now += later * SECOND
        allowed = memory.take(f"dpop:{proof}", "alice", now).allowed
        assert allowed is (proof not in passed or now - passed[proof] >= (LIFE + SKEW) * SECOND)
        if allowed:
            passed[proof] = now


def test_full() -> None:
    """When there is no room a new proof is refused, and none that is remembered is forgotten for it."""
    memory = replays(100)
    users = iter(range(10**6))
    taken = [number for number in range(200) if memory.take(f"dpop:{number}", f"u{next(users)}", NOW).allowed]
    assert 0 < len(taken) <= 100
    refused = memory.take("dpop:new", "late", NOW)
    assert (refused.allowed, refused.full) == (False, True)
    assert not any(memory.take(f"dpop:{number}", "u", NOW + SECOND).allowed for number in taken)
    later = NOW + 80 * SECOND
    memory.local.sweep(later)
    assert memory.take("dpop:new", "late", later).allowed


def test_nobody_takes_all_the_room() -> None:
    """One user has an eighth of the room; the others go on."""
    memory = replays(800)
    taken = sum(memory.take(f"dpop:{number}", "mallory", NOW).allowed for number in range(800))
    assert taken == 800 // SHARE
    assert memory.take("dpop:x", "mallory", NOW).full
    assert memory.take("dpop:y", "alice", NOW).allowed


def test_shared() -> None:
    """Where there is a shared store, what one process has seen no other takes; it may have to be waited for."""
    store = MemoryBuckets(100)
    rule = replay_rule(LIFE)
    one, two = (Replays(rule, 100, store) for _ in range(2))
    assert one.take("dpop:x", "alice", NOW).allowed
    assert not two.take("dpop:x", "alice", NOW).allowed
    assert isinstance(Replays(replay_rule(LIFE), 100, SlowBuckets()).take("dpop:x", "alice", NOW), Pending)
