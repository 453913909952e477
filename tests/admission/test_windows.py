"""Tests for gateway.admission.windows: each algorithm's bound against an exact log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.windows import FixedWindow, Gcra, SlidingWindow

SECOND = 1_000_000
START = 1_700_000_000 * SECOND

#: Steps in time: mostly forwards, some in place, some backwards.
steps = st.lists(st.one_of(st.integers(0, 200_000), st.just(0), st.integers(-400_000, 3_000_000)), min_size=1, max_size=120)


def drive(rule: Any, moves: list[int]) -> list[int]:
    """
    Times of the requests that passed. To a limiter a clock that goes back stands still until
    it has caught up: what it promises holds for that time.
    """
    now, latest, state, passed = START, 0, None, []
    for move in moves:
        now += move
        latest = max(latest, now)
        state, count = rule.take(state, now)
        assert 0 <= count.remaining <= max(rule.limit, getattr(rule, "burst", 0))
        if count.allowed:
            passed.append(latest)
        else:
            assert count.retry_after >= 1
    return passed


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 20), st.integers(SECOND, 3 * SECOND), steps)
def test_sliding_window_keeps_its_promise(limit: int, window: int, moves: list[int]) -> None:
    """In no span of a window, wherever it begins, do more than limit requests pass."""
    passed = sorted(drive(SlidingWindow(limit, window), moves))
    for at, first in enumerate(passed):
        inside = sum(1 for later in passed[at:] if later < first + window)
        assert inside <= limit


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20), st.integers(SECOND, 3 * SECOND), steps)
def test_fixed_window_keeps_its_bound(limit: int, window: int, moves: list[int]) -> None:
    """In each window of the clock at most limit pass."""
    passed = drive(FixedWindow(limit, window), moves)
    for number in {time // window for time in passed}:
        assert sum(1 for time in passed if time // window == number) <= limit


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20), st.integers(SECOND, 3 * SECOND), st.integers(1, 20), steps)
def test_gcra_keeps_its_bound(limit: int, window: int, burst: int, moves: list[int]) -> None:
    """In any span at most burst and span * limit / window pass."""
    passed = sorted(drive(Gcra(limit, window, min(burst, limit)), moves))
    for at, first in enumerate(passed):
        for more, last in enumerate(passed[at:], 1):
            assert (more - min(burst, limit)) * window <= (last - first) * limit


RULES = [SlidingWindow(3, 7 * SECOND), SlidingWindow(1, SECOND), FixedWindow(3, 7 * SECOND), Gcra(3, 7 * SECOND, 2), Gcra(7, 3 * SECOND, 7)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RULES), steps)
def test_who_waits_gets_in(rule: Any, moves: list[int]) -> None:
    """Whoever waits Retry-After alone gets in; X-RateLimit-Reset is when, rounded up."""
    now, state = START, None
    for move in moves:
        now += max(0, move)
        state, count = rule.take(state, now)
        if not count.allowed:
            kept = list(state)
            assert count.reset_at * SECOND <= now + (count.retry_after + 1) * SECOND
            assert rule.take(list(kept), now + count.retry_after * SECOND)[1].allowed
            assert rule.take(list(kept), count.reset_at * SECOND)[1].allowed
            assert state == kept


def test_a_refused_request_is_not_counted() -> None:
    """Trying again too soon pushes nobody further back."""
    rule = SlidingWindow(2, SECOND)
    state = rule.take(rule.take(None, START)[0], START)[0]
    before = list(state or [])
    for _ in range(100):
        state, count = rule.take(state, START + 10)
        assert not count.allowed
    assert state is not None
    assert state[0] == before[0]


def test_no_double_burst_at_the_boundary() -> None:
    """The original let twice the limit through around a window's edge; here it is the limit."""
    rule, state, passed = SlidingWindow(100, 60 * SECOND), None, 0
    edge = START - START % (60 * SECOND)
    for moment in [edge - 1] * 150 + [edge + 1] * 150:
        state, count = rule.take(state, moment)
        passed += count.allowed
    assert passed == 100


def test_remaining_and_reset() -> None:
    """Remaining counts down; reset is when the whole window is empty again."""
    rule = SlidingWindow(3, 16 * SECOND)
    state, first = rule.take(None, START)
    _, second = rule.take(state, START)
    assert (first.remaining, second.remaining) == (2, 1)
    assert first.reset_at == START // SECOND + 17


@pytest.mark.parametrize("rule", RULES)
def test_expired(rule: Any) -> None:
    """A state is forgotten only when a new one would behave the same."""
    state, _ = rule.take(None, START)
    assert not rule.expired(state, START)
    for later in range(0, 20 * SECOND, SECOND // 7):
        if rule.expired(state, START + later):
            assert rule.take(list(state), START + later)[1] == rule.take(None, START + later)[1]
            break
    else:
        raise AssertionError("never expires")
