"""Tests for gateway.admission.windows: each algorithm's bound against an exact log."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.windows import Combined, FixedWindow, Gcra, SlidingWindow, refused_lines

SECOND = 1_000_000
START = 1_700_000_000 * SECOND

#: Steps in time: mostly forwards, some in place, some backwards.
steps = st.lists(st.one_of(st.integers(0, 200_000), st.just(0), st.integers(-400_000, 3_000_000)), min_size=1, max_size=120)


#: Costs of requests, in turn.
prices = st.lists(st.integers(1, 6), min_size=1, max_size=10)


def drive(rule: Any, moves: list[int], costs: list[int] | None = None) -> list[int]:
    """
    Times of the requests that passed, as often as they cost. To a limiter a clock that goes
    back stands still until it has caught up: what it promises holds for that time.
    """
    # The first request begins the limiter's time: moves before it are not its business.
    now, latest, state, passed = START + moves[0], 0, None, []
    for at, move in enumerate(moves):
        now += move if at else 0
        latest = max(latest, now)
        cost = costs[at % len(costs)] if costs else 1
        before = copy.deepcopy(state)
        foreseen = rule.peek(state, now, cost)
        assert state == before
        state, count = rule.take(state, now, cost)
        assert count == foreseen
        assert count.window in rule.windows
        assert 0 <= count.remaining <= count.window.most - (cost if count.allowed else 0)
        if count.allowed:
            assert cost <= rule.most
            passed += [latest] * cost
        else:
            assert count.remaining == 0
            assert count.retry_after >= 1
    return passed


def keeps_sliding(rule: Any, passed: list[int]) -> bool:
    """Whether no span of a window, wherever it begins, holds more than limit."""
    passed = sorted(passed)
    return all(
        sum(1 for later in passed[at:] if later < first + rule.window) <= rule.limit for at, first in enumerate(passed)
    )


def keeps_fixed(rule: Any, passed: list[int]) -> bool:
    """Whether no window of the clock holds more than limit."""
    numbers = [time // rule.window for time in passed]
    return all(numbers.count(number) <= rule.limit for number in set(numbers))


def keeps_gcra(rule: Any, passed: list[int]) -> bool:
    """Whether no span holds more than burst and span * limit / window."""
    passed = sorted(passed)
    return all(
        (more - rule.burst) * rule.window <= (last - first) * rule.limit
        for at, first in enumerate(passed)
        for more, last in enumerate(passed[at:], 1)
    )


KEEPS = {SlidingWindow: keeps_sliding, FixedWindow: keeps_fixed, Gcra: keeps_gcra}
limits, spans = st.integers(1, 20), st.integers(SECOND, 3 * SECOND)
windows = st.one_of(
    st.builds(SlidingWindow, limits, spans),
    st.builds(FixedWindow, limits, spans),
    st.builds(lambda limit, span, burst: Gcra(limit, span, min(burst, limit)), limits, spans, limits),
)


@settings(max_examples=400, deadline=None)
@given(windows, steps, prices)
def test_each_window_keeps_its_promise(rule: Any, moves: list[int], costs: list[int]) -> None:
    """Held against an exact log, with costs, each algorithm lets no more pass than it says."""
    assert KEEPS[type(rule)](rule, drive(rule, moves, costs))


@settings(max_examples=300, deadline=None)
@given(st.lists(windows, min_size=2, max_size=4), steps, prices)
def test_combined_keeps_every_promise(parts: list[Any], moves: list[int], costs: list[int]) -> None:
    """What passes several windows at once passes within each of them."""
    passed = drive(Combined(parts), moves, costs)
    for each in parts:
        assert KEEPS[type(each)](each, passed)


@settings(max_examples=300, deadline=None)
@given(st.lists(windows, min_size=2, max_size=4), steps, prices)
def test_combined_is_all_or_nothing(parts: list[Any], moves: list[int], costs: list[int]) -> None:
    """A request passes exactly when each window alone would let it, and then counts in all; refused, in none."""
    rule, now = Combined(parts), START
    state: list[Any] = rule.fresh(START)
    alone = [each.fresh(START) for each in parts]
    for at, move in enumerate(moves):
        now += move if at else 0
        cost = costs[at % len(costs)]
        foreseen = [each.peek(mine, now, cost) for each, mine in zip(parts, alone, strict=True)]
        before = copy.deepcopy(state)
        state, count = rule.take(state, now, cost)
        assert count.allowed == all(each.allowed for each in foreseen)
        if count.allowed:
            for each, mine in zip(parts, alone, strict=True):
                each.count(mine, now, cost)
            assert state == alone
            share = count.remaining / count.window.most
            assert share == min(each.remaining / each.window.most for each in foreseen)
        else:
            assert state == before
            assert count.retry_after == max(each.retry_after for each in foreseen)
            assert not next(each for each in foreseen if each.window is count.window).allowed


@pytest.mark.parametrize("rule", [SlidingWindow(5, SECOND), FixedWindow(5, SECOND), Gcra(9, SECOND, 5), Combined([SlidingWindow(5, SECOND), SlidingWindow(9, 60 * SECOND)])])
def test_the_highest_cost(rule: Any) -> None:
    """The highest cost passes alone and leaves nothing; a higher one never passes, and uses nothing up."""
    state, count = rule.take(None, START, rule.most + 1)
    assert not count.allowed
    for later in range(0, 200 * SECOND, 10 * SECOND):
        assert not rule.peek(state, START + later, rule.most + 1).allowed
    state, count = rule.take(state, START, rule.most)
    assert (rule.most, count.allowed, count.remaining) == (5, True, 0)
    assert not rule.take(state, START, 1)[1].allowed


RULES = [SlidingWindow(3, 7 * SECOND), SlidingWindow(1, SECOND), FixedWindow(3, 7 * SECOND), Gcra(3, 7 * SECOND, 2), Gcra(7, 3 * SECOND, 7)]
RULES += [Combined([SlidingWindow(3, SECOND), FixedWindow(5, 7 * SECOND), Gcra(9, 11 * SECOND, 4)]), Combined([SlidingWindow(2, SECOND), SlidingWindow(3, 7 * SECOND)])]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.sampled_from(RULES), windows), steps, prices)
def test_who_waits_gets_in(rule: Any, moves: list[int], costs: list[int]) -> None:
    """Whoever waits Retry-After alone gets in; X-RateLimit-Reset is when, rounded up."""
    now, state = START, None
    for at, move in enumerate(moves):
        now += max(0, move)
        cost = min(costs[at % len(costs)], rule.most)
        state, count = rule.take(state, now, cost)
        if not count.allowed:
            kept = copy.deepcopy(state)
            assert count.reset_at * SECOND <= now + (count.retry_after + 1) * SECOND
            assert rule.peek(state, now + count.retry_after * SECOND, cost).allowed
            assert rule.peek(state, count.reset_at * SECOND, cost).allowed
            assert state == kept


def test_a_dear_request_waits_longer() -> None:
    """Who needs more room waits until so much has left, not only until there is some."""
    rule = SlidingWindow(4, 16 * SECOND)
    state = rule.take(None, START)[0]
    rule.take(state, START + 5 * SECOND, 2)
    assert rule.peek(state, START + 5 * SECOND, 1).allowed
    assert [rule.peek(state, START + 5 * SECOND, cost).retry_after for cost in (2, 3, 4)] == [12, 17, 17]


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
            assert rule.peek(state, START + later) == rule.peek(None, START + later)
            break
    else:
        raise AssertionError("never expires")


def test_names() -> None:
    """A window is named as in the settings, behind its owner unless the limit is the common one; ids tell counters apart."""
    assert [SlidingWindow(100, 60 * SECOND).name, FixedWindow(5, 86_400 * SECOND, "gold").name, Gcra(9, 1_500_000, 3, "/a").name] == ["100/60s", "gold 5/1d", "/a 9/1.5s"]
    assert SlidingWindow(100, 60 * SECOND).id == b"default|sliding-window:100/60000000"
    assert Gcra(9, SECOND, 3, "/a").id == b"/a|gcra:9/1000000/3"
    both = Combined([SlidingWindow(9, SECOND, "gold"), FixedWindow(90, 60 * SECOND, "gold")])
    assert both.id == b"gold|sliding-window:9/1000000,fixed-window:90/60000000"


def test_header_lines() -> None:
    """The draft's fields list every window and tell of one; without them only X-RateLimit-* is told."""
    window = SlidingWindow(100, 60 * SECOND)
    assert window.lines % (7, 99, 7, 30) == (
        b"X-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 7\r\nX-RateLimit-Reset: 99\r\n"
        b'RateLimit-Policy: "default";q=100;w=60\r\nRateLimit: "default";r=7;t=30\r\n'
    )
    silent = SlidingWindow(100, 60 * SECOND, ietf=False).lines % (7, 99, 7, 30)
    assert silent == b"X-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 7\r\nX-RateLimit-Reset: 99\r\n"
    both = Combined([SlidingWindow(9, 1_500_000, "gold"), SlidingWindow(90, 60 * SECOND, "gold")])
    assert b'RateLimit-Policy: "gold 9/1.5s";q=9;w=2, "gold 90/60s";q=90;w=60\r\nRateLimit: "gold 90/60s";r=7;t=30\r\n' in both.windows[1].lines % (7, 99, 7, 30)
    quiet = Combined([SlidingWindow(9, SECOND), SlidingWindow(90, 60 * SECOND)], ietf=False)
    assert b"RateLimit:" not in quiet.windows[0].lines % (7, 99, 7, 30)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(RULES), steps)
def test_a_refusals_time(rule: Any, moves: list[int]) -> None:
    """RateLimit's t on a refusal is Retry-After's, never more; on an answer it is never negative."""
    now, state = START, None
    for move in moves:
        now += max(0, move)
        state, count = rule.take(state, now)
        assert count.reset_at - now // SECOND >= 0
        if not count.allowed:
            assert refused_lines(count).endswith(b";r=0;t=%d\r\n" % count.retry_after)
