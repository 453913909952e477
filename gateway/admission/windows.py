# -*- test-case-name: tests.admission.test_windows -*-
"""
Lets a request through while its key is under the limit; says when to come back if not.

Three ways to count, each with its bound, and several windows at once. Integers only
(microseconds of the wall clock), so that a client that waits exactly as long as it was
told gets in. A clock that goes back stands still to them until it has caught up: stricter,
never looser. Nothing here reads a clock.

A request has a cost, 1 unless told otherwise: so many requests it counts as. A state is a
small list of the rule's own, changed in place; a refused request changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.admission.limit_fields import amount, policy, template

#: Sub-windows a sliding window is cut into.
PARTS = 16

_SECOND = 1_000_000


class Count(NamedTuple):
    """
    The outcome of one request.

    @ivar window: the window it speaks of: the one that refuses (of several the one that has
        room last), or the one with the least remaining, as a share of its limit.
    @ivar remaining: how many more requests of cost 1 have room in that window now; 0 when
        refused.
    @ivar reset_at: unix seconds, rounded up: when refused, when the same request would
        pass; else when the window is empty again.
    @ivar retry_after: seconds to wait when refused, rounded up; else 0.
    @ivar full: refused because the store has no room for a new key.
    @ivar note: C{local}, C{open} or C{closed}: decided so, because the store did not answer.
    """

    allowed: bool
    window: Window
    remaining: int
    reset_at: int
    retry_after: int = 0
    full: bool = False
    note: str = ""

    @property
    def limit(self) -> int:
        """Requests in the window."""
        return self.window.limit


_count = tuple.__new__


def refused_lines(count: Count) -> bytes:
    """
    The header lines of a refusal. RateLimit's time is C{Retry-After}'s: the draft asks that it
    be no later.
    """
    return count.window.lines % (0, count.reset_at, 0, count.retry_after)


def _up(microseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-microseconds // _SECOND)


class Window:
    """
    What every way to count has.

    @ivar algorithm: its name in the settings.
    @ivar limit: requests in a window.
    @ivar window: its length in microseconds.
    @ivar most: the highest cost that can ever pass.
    @ivar owner: whose limit it is: C{default}, a plan's name or a route's prefix.
    @ivar id: names the counter; equal in all processes with the same settings.
    @ivar windows: the windows counted in: itself alone.
    @ivar name: what a refusal calls it: C{100/60s}, C{gold 100/60s}.
    @ivar lines: the template of the header lines, see L{gateway.admission.limit_fields}.
    """

    __slots__ = ("_told", "id", "limit", "lines", "most", "name", "owner", "window")

    algorithm = ""

    def __init__(self, limit: int, window: int, owner: str = "default", ietf: bool = True) -> None:
        self.limit = self.most = limit
        self.window = window
        self.owner = owner
        text = amount(limit, window)
        self.name = text if owner == "default" else f"{owner} {text}"
        self.id = f"{owner}|{self._spelled()}".encode("ascii")
        self.lines = template(owner, limit, policy(owner, limit, window), ietf)
        self._told: tuple[int, int, list[bytes]] = (-1, -1, [])

    @property
    def windows(self) -> tuple[Window, ...]:
        """Itself alone."""
        return (self,)

    def filled(self, remaining: int, reset_at: int, seconds: int) -> bytes:
        """
        The header lines of a request that passes; C{seconds}: until the reset.

        All but the remaining requests is the same in many answers, so the pieces between which
        they stand are kept.
        """
        told_reset, told_seconds, pieces = self._told
        if told_reset != reset_at or told_seconds != seconds:
            pieces = self.pieces(reset_at, seconds)
            self._told = reset_at, seconds, pieces
        return (b"%d" % remaining).join(pieces)

    def pieces(self, reset_at: int, seconds: int) -> list[bytes]:
        """What L{filled} writes the remaining requests between."""
        mark = -(1 << 62)  # no limit and no time is negative
        return (self.lines % (mark, reset_at, mark, seconds)).split(b"%d" % mark)

    def take(self, state: list[int] | None, now: int, cost: int = 1) -> tuple[list[int], Count]:
        """Count a request; the state to keep, new where there was none, and the outcome."""
        if state is None:
            state = self.fresh(now)
        return state, self.count(state, now, cost)

    def peek(self, state: list[int] | None, now: int, cost: int = 1) -> Count:
        """What L{take} would say; nothing is counted and the state stays as it is."""
        return self.count(self.fresh(now) if state is None else state[:], now, cost)

    @abstractmethod
    def fresh(self, now: int) -> list[int]:
        """The state of a key that has asked for nothing yet."""

    @abstractmethod
    def count(self, state: list[int], now: int, cost: int = 1) -> Count:
        """Count one request in a state."""

    @abstractmethod
    def expired(self, state: list[int], now: int) -> bool:
        """Whether nothing in it counts any more."""

    def _spelled(self) -> str:
        return f"{self.algorithm}:{self.limit}/{self.window}"

    def _refused(self, now: int, at: int) -> Count:
        """Refused at C{now}; at C{at} the same request would pass."""
        # At least one second: 0 would tell a client to try again at once.
        return Count(False, self, 0, _up(at), max(1, _up(at - now)))


class SlidingWindow(Window):
    """
    At most C{limit} requests in any span of C{window} microseconds, wherever it begins.

    The window is cut into L{PARTS} sub-windows. The current one and the PARTS before it
    together hold at most C{limit}, and any span of C{window} lies within these PARTS + 1,
    so the promise is exact; the price is up to 1/16 of the window more to wait. (The usual
    estimate from two windows lets nearly twice the limit into one span.)

    A state is C{[total, latest sub-window, count, earlier sub-window, count, ...]}, the
    earlier ones oldest first.
    """

    __slots__ = ("part", "reset")

    algorithm = "sliding-window"

    def __init__(self, limit: int, window: int, owner: str = "default", ietf: bool = True) -> None:
        super().__init__(limit, window, owner, ietf)
        self.reset = (-1, 0)
        # Rounded up: PARTS sub-windows are never shorter than the window.
        self.part = -(-window // PARTS)

    def fresh(self, now: int) -> list[int]:
        """See L{Window.fresh}."""
        return [0, now // self.part, 0]

    def count(self, state: list[int], now: int, cost: int = 1) -> Count:
        """See L{Window.count}."""
        index = now // self.part
        if index > state[1]:
            self._move(state, index)
        # Else the same sub-window, or the clock went back: count in the latest.
        total = state[0] + cost
        limit = self.limit
        if total > limit:
            return self._refused(now, self._free_at(state, total - limit))
        state[0] = total
        state[2] += cost
        latest, reset_at = self.reset
        if latest != state[1]:
            latest = state[1]
            reset_at = -(-(latest + PARTS + 1) * self.part // _SECOND)
            self.reset = latest, reset_at
        # As C{Count(...)}, whose own C{__new__} is one more call.
        return _count(Count, (True, self, limit - total, reset_at, 0, False, ""))

    def expired(self, state: list[int], now: int) -> bool:
        """See L{Window.expired}."""
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

    def _free_at(self, state: list[int], excess: int) -> int:
        """When so much has left."""
        for at in range(3, len(state), 2):
            excess -= state[at + 1]
            if excess <= 0:
                return (state[at] + PARTS + 1) * self.part
        return (state[1] + PARTS + 1) * self.part


class FixedWindow(Window):
    """
    At most C{limit} requests in each window of the clock; up to twice that in a span
    across a boundary. A state is C{[window's number, count]}.
    """

    __slots__ = ()

    algorithm = "fixed-window"

    def fresh(self, now: int) -> list[int]:
        """See L{Window.fresh}."""
        return [now // self.window, 0]

    def count(self, state: list[int], now: int, cost: int = 1) -> Count:
        """See L{Window.count}."""
        index = now // self.window
        if index > state[0]:
            state[0], state[1] = index, 0
        end = (state[0] + 1) * self.window
        if state[1] + cost > self.limit:
            return self._refused(now, end)
        state[1] += cost
        return Count(True, self, self.limit - state[1], _up(end))

    def expired(self, state: list[int], now: int) -> bool:
        """See L{Window.expired}."""
        return now // self.window > state[0]


class Gcra(Window):
    """
    One request every C{window / limit}, C{burst} of them at once: at most
    C{burst + span * limit / window} in any span (the Generic Cell Rate Algorithm, ITU-T
    I.371). A state is C{[the moment when all of the burst is free again]}, in units of
    1/C{limit} microsecond, so that nothing is ever rounded.
    """

    __slots__ = ("burst",)

    algorithm = "gcra"

    def __init__(
        self, limit: int, window: int, burst: int, owner: str = "default", ietf: bool = True
    ) -> None:
        self.burst = burst
        super().__init__(limit, window, owner, ietf)
        self.most = burst

    def fresh(self, now: int) -> list[int]:
        """See L{Window.fresh}."""
        return [now * self.limit]

    def count(self, state: list[int], now: int, cost: int = 1) -> Count:
        """See L{Window.count}."""
        limit, window = self.limit, self.window
        scaled = now * limit
        free = max(state[0], scaled) + window * cost
        lacking = free - scaled - window * self.burst
        if lacking > 0:
            return self._refused(now, -(-(scaled + lacking) // limit))
        state[0] = free
        return Count(True, self, -lacking // window, _up(-(-free // limit)))

    def expired(self, state: list[int], now: int) -> bool:
        """See L{Window.expired}."""
        return state[0] <= now * self.limit

    def _spelled(self) -> str:
        return f"{super()._spelled()}/{self.burst}"


class Combined:
    """
    Several windows at once: a request passes only where each has room, and then counts in
    each; a refused one counts in none. A state is the list of the windows' states.

    @param windows: at least two, of one owner; they are this rule's alone, for their names
        and header lines change.
    @ivar windows: the same.
    @ivar id: see L{Window.id}.
    """

    __slots__ = ("id", "most", "windows")

    def __init__(self, windows: Sequence[Window], ietf: bool = True) -> None:
        self.windows = tuple(windows)
        self.most = min(window.most for window in windows)
        owner = windows[0].owner.encode("ascii")
        self.id = owner + b"|" + b",".join(each.id.partition(b"|")[2] for each in windows)
        policies = b", ".join(policy(each.name, each.limit, each.window) for each in windows)
        for each in windows:
            each.lines = template(each.name, each.limit, policies, ietf)

    def take(self, state: list[Any] | None, now: int, cost: int = 1) -> tuple[list[Any], Count]:
        """See L{Window.take}."""
        if state is None:
            state = self.fresh(now)
        return state, self.count(state, now, cost)

    def peek(self, state: list[Any] | None, now: int, cost: int = 1) -> Count:
        """See L{Window.peek}."""
        return self.count(self.fresh(now) if state is None else state[:], now, cost)

    def fresh(self, now: int) -> list[Any]:
        """See L{Window.fresh}."""
        return [window.fresh(now) for window in self.windows]

    def count(self, state: list[Any], now: int, cost: int = 1) -> Count:
        """See L{Window.count}."""
        # Counted in copies, which replace the originals only when all had room.
        copies = [each[:] for each in state]
        counts = [
            window.count(copy, now, cost) for window, copy in zip(self.windows, copies, strict=True)
        ]
        if all(count.allowed for count in counts):
            state[:] = copies
            return min(counts, key=lambda count: count.remaining / count.window.most)
        return max(counts, key=lambda count: (count.retry_after, count.reset_at))

    def expired(self, state: list[Any], now: int) -> bool:
        """See L{Window.expired}."""
        return all(
            window.expired(each, now) for window, each in zip(self.windows, state, strict=True)
        )


Rule = SlidingWindow | FixedWindow | Gcra | Combined
