# -*- test-case-name: tests.workers.test_restarts -*-
"""
When a dead worker's successor starts: lets one follow at once on a worker that had lived;
makes those wait that die soon after their start, ever longer.
"""

from __future__ import annotations

import random

#: Seconds until a successor starts, in a crash loop: at first, and at most.
FIRST_WAIT, LAST_WAIT = 0.1, 30.0

#: A worker that lived so many seconds has not failed at its start.
LIVED = 10.0


class Restarts:
    """How often each of the workers, by number, has failed at its start."""

    def __init__(self) -> None:
        self._failures: dict[int, int] = {}

    def wait(self, number: int, lived: float) -> float:
        """
        Seconds until the successor of a worker may start that has died after C{lived} seconds.

        Less up to a half at random, so that not all start at once.
        """
        failures = self._failures[number] = 0 if lived >= LIVED else self.failures(number) + 1
        if not failures:
            return 0.0
        longest = min(LAST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 20))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    def failures(self, number: int) -> int:
        """How often in a row it has died soon after its start."""
        return self._failures.get(number, 0)
