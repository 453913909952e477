# -*- test-case-name: tests.admission.test_replays -*-
"""
Lets each proof through once in its life; a second time, and a new one when there is no room,
it is refused.

A proof is a counter that lets one pass in its life. So the memory is what counters are kept
in, bounded as they are, and where processes share a store, one that has seen a proof has seen
it for all.
"""

from __future__ import annotations

from typing import Any

from gateway.admission.windows import Count, Gcra, SlidingWindow
from gateway.interfaces import IBuckets
from gateway.stores.memory import MemoryBuckets

#: Seconds by which the clocks of machines that share a store may differ.
SKEW = 10.0

#: Of the room, for one user at most.
SHARE = 8


def replay_rule(life: float) -> Gcra:
    """Once in a proof's life, which is so many seconds."""
    return Gcra(1, round((life + SKEW) * 1_000_000), 1, "dpop", False)


class Replays:
    """
    The memory of proofs.

    @param rule: see L{replay_rule}.
    @param shared: where others see what this process has seen; C{None}: there are none.
    @param room: proofs remembered here.
    """

    def __init__(self, rule: Gcra, room: int, shared: IBuckets | None = None) -> None:
        self.rule = rule
        self.local = MemoryBuckets(room)
        self._shared = shared
        self._each = SlidingWindow(max(1, room // SHARE), rule.window, "dpop users", False)

    def take(self, key: str, user: str, now: int) -> Any:
        """
        Whether the proof is new, as a L{Count}, or a L{gateway.admission.pending.Pending}.

        @param user: whose it is: nobody takes all the room.
        @param now: unix microseconds.
        """
        if self._shared is not None:
            return self._shared.take(self.rule, key, now)
        share: Count = self.local.take(self._each, f"user:{user}", now)
        if not share.allowed:
            return share._replace(full=True)
        return self.local.take(self.rule, key, now)

    def peek(self, key: str, user: str, now: int) -> Any:
        """What L{take} would say; the proof is not used up by it."""
        if self._shared is not None:
            look = getattr(self._shared, "peek", None)
            return (look or self._shared.take)(self.rule, key, now)
        share = self.local.peek(self._each, f"user:{user}", now)
        if not share.allowed:
            return share._replace(full=True)
        return self.local.peek(self.rule, key, now)
