# -*- test-case-name: tests.http.test_sweep -*-
"""
Lets nothing outlive its deadline: one timer for all connections instead of one each.

A timer per request costs more than the request's parsing. So every connection keeps
its own C{deadline}, a float in the clock's seconds, and one beat an interval looks at
all of them. A deadline set through L{Sweep.after} never fires early and at most two
intervals late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gateway.cores import SweepCore

NEVER = float("inf")


class HasDeadline(Protocol):
    """What can be watched."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed; set a new one or end."""


class Sweep(SweepCore):
    """
    The one timer.

    @ivar now: the clock's seconds at the last beat: the time, read for nothing.
    @param interval: seconds between two beats.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, interval: float = 1.0) -> None:
        self._clock = clock
        self.interval = interval
        self.now: float = clock.seconds()
        self._watched: set[HasDeadline] = set()
        self.beats: list[Callable[[], object]] = []
        self._loop = LoopingCall(self._beat)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to beat."""
        self.now = self._clock.seconds()
        self._loop.start(self.interval, now=False)

    def retime(self, interval: float) -> None:
        """Beat at another interval; deadlines that are set stay as they are."""
        if interval != self.interval:
            self.interval = interval
            if self._loop.running:
                self._loop.stop()
                self._loop.start(interval, now=False)

    def stop(self) -> None:
        """Stop beating; what is watched stays as it is."""
        if self._loop.running:
            self._loop.stop()

    def after(self, seconds: float) -> float:
        """The deadline that lies at least C{seconds} ahead."""
        return self.now + self.interval + seconds

    def watch(self, thing: HasDeadline) -> None:
        """Look at the thing's deadline at every beat from now on."""
        self._watched.add(thing)

    def forget(self, thing: HasDeadline) -> None:
        """Look no more; no error if it was never watched."""
        self._watched.discard(thing)

    def _beat(self) -> None:
        self.now = now = self._clock.seconds()
        for thing in [each for each in self._watched if each.deadline <= now]:
            try:
                thing.expire()
            except Exception:
                # One broken connection must not stop the clock of all the others.
                self._log.failure("a deadline's end failed")
        for beat in self.beats:
            try:
                beat()
            except Exception:
                self._log.failure("a beat failed")
