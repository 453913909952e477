# -*- test-case-name: tests.workers.test_neighbours -*-
"""
How many connections an address has in all workers together, in memory they share. Lets no
address have more than one gateway's bound, whichever workers it comes to.

Each worker has a row of counters of its own, which nobody else writes, so that nothing need
be locked and a dead worker's row can be emptied. An address has four counters in a row, and
the least of the four sums counts: it is too high only where others share all four, which
among 20,000 addresses happens to one in 2,500.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from hashlib import blake2b

#: Counters in a row, an address's own, and bytes of a row.
WIDTH, OWN = 1 << 19, 4
ROW = 4 * WIDTH

_PICK = struct.Struct(f"<{OWN}I")


class Neighbours:
    """
    One worker's view.

    @param descriptor: of the memory.
    @param start: where the first worker's row begins.
    @param key: so that nobody can choose addresses that share counters.
    @param workers: how many there are, asked anew each time: it may change.
    """

    def __init__(
        self,
        descriptor: int,
        start: int,
        key: bytes,
        worker: int,
        workers: Callable[[], int],
    ) -> None:
        self._descriptor = descriptor
        self._start = start
        self._key = key
        self._worker = worker
        self._workers = workers
        self._rows = 0
        self._counters = memoryview(bytearray()).cast("I")

    def add(self, address: str, by: int) -> None:
        """So many more, or fewer, of this worker's connections are the address's."""
        self._map(self._worker)
        base = (self._worker - 1) * WIDTH
        for at in self._places(address):
            self._counters[base + at] = max(0, self._counters[base + at] + by)

    def others(self, address: str) -> int:
        """How many connections of the address the other workers have."""
        workers = self._workers()
        self._map(workers)
        rows = [WIDTH * row for row in range(workers) if row != self._worker - 1]
        return min(
            sum(self._counters[base + at] for base in rows) for at in self._places(address)
        )

    def replace(self, counts: Mapping[str, int]) -> None:
        """These are all that this worker has."""
        empty(self._descriptor, self._start, self._worker)
        for address, count in counts.items():
            self.add(address, count)

    def _places(self, address: str) -> tuple[int, ...]:
        digest = blake2b(address.encode(), key=self._key, digest_size=_PICK.size).digest()
        return tuple(each % WIDTH for each in _PICK.unpack(digest))

    def _map(self, rows: int) -> None:
        """There are so many rows at least; the supervisor has made room for them before."""
        if rows > self._rows:
            page = mmap.mmap(self._descriptor, self._start + rows * ROW)
            self._counters = memoryview(page)[self._start :].cast("I")
            self._rows = rows


def empty(descriptor: int, start: int, worker: int) -> None:
    """A worker's row counts nothing any more."""
    begins = start + (worker - 1) * ROW
    # What was never written takes no memory, and shall not now.
    with contextlib.suppress(OSError):
        if os.lseek(descriptor, begins, os.SEEK_DATA) < begins + ROW:
            os.pwrite(descriptor, bytes(ROW), begins)
