# -*- test-case-name: tests.admission.test_windows -*-
"""
Lets a request through while its key is under the limit; says when to come back if not.

Three ways to count, each with its bound. Integers only (microseconds of the wall
clock), so that a client that waits exactly as long as it was told gets in. A clock that
goes back stands still to them until it has caught up: stricter, never looser. Nothing here
reads a clock.

A state is a small list of the rule's own, changed in place; a refused request changes
nothing.
"""

from __future__ import annotations

from typing import NamedTuple

#: Sub-windows a sliding window is cut into.
PARTS = 16

_SECOND = 1_000_000


class Count(NamedTuple):
    """
    The outcome of one request.

    @ivar limit: requests in a window.
    @ivar remaining: how many more would pass now.
    @ivar reset_at: unix seconds, rounded up: when refused, when the next one would pass;
        else when the window is empty again.
    @ivar retry_after: seconds to wait when refused, rounded up; else 0.
    @ivar full: refused because the store has no room for a new key.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_at: int
    retry_after: int = 0
    full: bool = False


def _up(microseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-microseconds // _SECOND)


def _refused(limit: int, now: int, at: int) -> Count:
    """Refused at C{now}; at C{at} the next one would pass."""
    # At least one second: 0 would tell a client to try again at once.
    return Count(False, limit, 0, _up(at), max(1, _up(at - now)))


class SlidingWindow:
    """
    At most C{limit} requests in any span of C{window} microseconds, wherever it begins.

    The window is cut into L{PARTS} sub-windows. The current one and the PARTS before it
    together hold at most C{limit}, and any span of C{window} lies within these PARTS + 1,
    so the promise is exact; the price is up to 1/16 of the window more to wait. (The usual
    estimate from two windows lets nearly twice the limit into one span.)

    A state is C{[total, latest sub-window, count, earlier sub-window, count, ...]}, the
    earlier ones oldest first.
    """

    __slots__ = ("limit", "part", "reset", "window")

    def __init__(self, limit: int, window: int) -> None:
        self.limit = limit
        self.window = window
        self.reset = (-1, 0)
        # Rounded up: PARTS sub-windows are never shorter than the window.
        self.part = -(-window // PARTS)

    def take(self, state: list[int] | None, now: int) -> tuple[list[int], Count]:
        """Count one request; the state to keep, new where there was none, and the outcome."""
        if state is None:
            state = [0, now // self.part, 0]
        return state, self.count(state, now)

    def count(self, state: list[int], now: int) -> Count:
        """Count one request in a state."""
        index = now // self.part
        if index > state[1]:
            self._move(state, index)
        # Else the same sub-window, or the clock went back: count in the latest.
        total = state[0]
        limit = self.limit
        if total >= limit:
            return _refused(limit, now, self._free_at(state))
        state[0] = total = total + 1
        state[2] += 1
        latest, reset_at = self.reset
        if latest != state[1]:
            latest = state[1]
            reset_at = -(-(latest + PARTS + 1) * self.part // _SECOND)
            self.reset = latest, reset_at
        return Count(True, limit, limit - total, reset_at, 0, False)

    def expired(self, state: list[int], now: int) -> bool:
        """Whether nothing in it counts any more."""
        return now // self.part > state[1] + PARTS

    def _move(self, state: list[int], index: int) -> None:
        """Enter a new sub-window: the latest joins the earlier ones, the too old leave."""
        oldest = index - PARTS
        earlier = state[3:]
        if state[2]:
            earlier += state[1:3]
        gone = 0
        while gone < len(earlier) and earlier[gone] < oldest:
            state[0] -= earlier[gone + 1]
            gone += 2
        state[1:] = [index, 0, *earlier[gone:]]

    def _free_at(self, state: list[int]) -> int:
        """When enough has left that one more fits."""
        excess = state[0] - self.limit + 1
        for at in range(3, len(state), 2):
            excess -= state[at + 1]
            if excess <= 0:
                return (state[at] + PARTS + 1) * self.part
        return (state[1] + PARTS + 1) * self.part


class FixedWindow:
    """
    At most C{limit} requests in each window of the clock; up to twice that in a span
    across a boundary. A state is C{[window's number, count]}.
    """

    __slots__ = ("limit", "window")

    def __init__(self, limit: int, window: int) -> None:
        self.limit = limit
        self.window = window

    def take(self, state: list[int] | None, now: int) -> tuple[list[int], Count]:
        """See L{SlidingWindow.take}."""
        if state is None:
            state = [now // self.window, 0]
        return state, self.count(state, now)

    def count(self, state: list[int], now: int) -> Count:
        """See L{SlidingWindow.count}."""
        index = now // self.window
        if index > state[0]:
            state[0], state[1] = index, 0
        end = (state[0] + 1) * self.window
        if state[1] >= self.limit:
            return _refused(self.limit, now, end)
        state[1] += 1
        return Count(True, self.limit, self.limit - state[1], _up(end))

    def expired(self, state: list[int], now: int) -> bool:
        """See L{SlidingWindow.expired}."""
        return now // self.window > state[0]


class Gcra:
    """
    One request every C{window / limit}, C{burst} of them at once: at most
    C{burst + span * limit / window} in any span (the Generic Cell Rate Algorithm, ITU-T
    I.371). A state is C{[the moment when all of the burst is free again]}, in units of
    1/C{limit} microsecond, so that nothing is ever rounded.
    """

    __slots__ = ("burst", "limit", "window")

    def __init__(self, limit: int, window: int, burst: int) -> None:
        self.limit = limit
        self.window = window
        self.burst = burst

    def take(self, state: list[int] | None, now: int) -> tuple[list[int], Count]:
        """See L{SlidingWindow.take}."""
        if state is None:
            state = [now * self.limit]
        return state, self.count(state, now)

    def count(self, state: list[int], now: int) -> Count:
        """See L{SlidingWindow.count}."""
        limit, window = self.limit, self.window
        scaled = now * limit
        free = max(state[0], scaled) + window
        lacking = free - scaled - window * self.burst
        if lacking > 0:
            return _refused(limit, now, -(-(scaled + lacking) // limit))
        state[0] = free
        return Count(True, limit, -lacking // window, _up(-(-free // limit)))

    def expired(self, state: list[int], now: int) -> bool:
        """See L{SlidingWindow.expired}."""
        return state[0] <= now * self.limit


Rule = SlidingWindow | FixedWindow | Gcra
