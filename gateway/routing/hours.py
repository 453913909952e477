# -*- test-case-name: tests.routing.test_hours -*-
"""
Lets a moment in that lies within the hours a route is open; refuses any other.

Hours are wall-clock hours of a time zone, by its own rules of summer time: an hour that the
clocks skip never comes, one that they repeat comes twice. A span over midnight belongs to
the day on which it begins. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

#: Minutes of a day.
DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Span:
    """
    Some hours of some days of the week.

    @ivar days: 0 is Monday, as C{datetime.weekday} has it.
    @ivar begins: minutes since midnight, from 0.
    @ivar ends: the same, exclusive, up to 1440; not after C{begins}: on the day after.
    """

    days: frozenset[int]
    begins: int
    ends: int
    zone: tzinfo

    def holds(self, now: float) -> bool:
        """Whether the moment is in it; unix seconds."""
        local = datetime.fromtimestamp(now, self.zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        if self.begins < self.ends:
            return day in self.days and self.begins <= minute < self.ends
        return (day in self.days and minute >= self.begins) or (
            (day - 1) % 7 in self.days and minute < self.ends
        )


class Hours:
    """
    The spans in which something is open.

    @param spans: any one of them; not empty.
    """

    __slots__ = ("_minute", "_open", "_spans")

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = tuple(spans)
        self._minute = -1
        self._open = False

    def open(self, now: float) -> bool:
        """Whether the moment is in one of them; unix seconds."""
        # Zones are whole minutes off UTC, and so are the spans: what holds, holds for a minute.
        minute = int(now // 60)
        if minute != self._minute:
            self._open = any(span.holds(now) for span in self._spans)
            self._minute = minute
        return self._open
