# -*- test-case-name: tests.workers.test_share -*-
"""
What workers know of each other: how many connections each has, in one page of memory,
and behind it what L{gateway.workers.neighbours} keeps of clients' addresses.

A worker that is ahead of the one with the fewest lets it go first; without that, the
first to wake up would take a whole burst. Wrong numbers can only make that unfair.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from gateway.workers.neighbours import ROW, Neighbours, empty

#: Slots; [gateway] workers can't be more.
SLOTS = 1024

#: Bytes of a key, and of all that comes before the rows of addresses.
_KEY, _HEAD = 16, 8192

#: Connections a worker may be ahead: so many, and this part of what the others have.
_AHEAD, _PART = 2, 8


class Board:
    """
    The page: a slot for each worker; 0: nobody there, else its connections and one.

    @param descriptor: of the memory, from the supervisor; C{None}: make it.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = memory(_HEAD)
            os.pwrite(descriptor, os.urandom(_KEY), _HEAD - _KEY)
        self.descriptor = descriptor
        self._page = mmap.mmap(descriptor, 4 * (SLOTS + 1))
        self._slots = memoryview(self._page).cast("I")

    def resize(self, workers: int) -> None:
        """There are so many slots in use from now on."""
        size = _HEAD + workers * ROW
        if os.fstat(self.descriptor).st_size < size:
            # Room only: memory is taken for what is written.
            os.ftruncate(self.descriptor, size)
        self._slots[0] = workers
        for at in range(workers, SLOTS):
            self._slots[at + 1] = 0

    def vacate(self, worker: int) -> None:
        """A worker is gone, and all it has told."""
        self.write(worker, 0)
        empty(self.descriptor, _HEAD, worker)

    def neighbours(self, worker: int) -> Neighbours:
        """What a worker sees of the others' clients."""
        key = os.pread(self.descriptor, _KEY, _HEAD - _KEY)
        return Neighbours(self.descriptor, _HEAD, key, worker, lambda: self._slots[0])

    def write(self, worker: int, value: int) -> None:
        """A worker's slot."""
        self._slots[worker] = value

    def fewest(self) -> int:
        """Of those who are there, the fewest connections; 0 if nobody is."""
        there = [value for value in self._slots[1 : self._slots[0] + 1] if value]
        return min(there, default=1) - 1

    def close(self) -> None:
        """Give the memory back."""
        self._slots.release()
        self._page.close()
        os.close(self.descriptor)


class Share:
    """
    One worker's part.

    @param connections: how many it has.
    """

    def __init__(self, board: Board, worker: int, connections: Callable[[], int]) -> None:
        self._board = board
        self._worker = worker
        self._connections = connections

    def tell(self) -> None:
        """Let the others know."""
        self._board.write(self._worker, self._connections() + 1)

    def leave(self) -> None:
        """Nobody need wait for this worker any more."""
        self._board.write(self._worker, 0)

    def my_turn(self) -> bool:
        """Whether this worker may accept before the others."""
        mine = self._connections()
        self._board.write(self._worker, mine + 1)
        fewest = self._board.fewest()
        return mine < fewest + _AHEAD + fewest // _PART


@dataclass(frozen=True, slots=True)
class Place:
    """
    A worker's place among the others.

    @ivar worker: its number, from 1.
    """

    worker: int
    board: Board

    def share(self, connections: Callable[[], int]) -> Share:
        """Its part of what they know of each other."""
        return Share(self.board, self.worker, connections)


def memory(size: int) -> int:
    """A descriptor of memory that has no name."""
    create = getattr(os, "memfd_create", None)
    if create is not None:
        descriptor: int = create("gateway")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
