"""How many connections an address has in all workers together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.workers.neighbours import Neighbours
from gateway.workers.share import Board


@pytest.fixture
def board() -> Iterator[Board]:
    """Memory for three workers."""
    found = Board()
    found.resize(3)
    yield found
    found.close()


def views(board: Board) -> list[Neighbours]:
    """What each of the workers sees."""
    return [board.neighbours(worker) for worker in range(1, board._slots[0] + 1)]


def test_each_sees_what_the_others_have(board: Board) -> None:
    """An address's connections are summed over the other workers, and go down again."""
    one, two, three = views(board)
    one.add("192.0.2.1", 1)
    two.add("192.0.2.1", 1)
    two.add("192.0.2.1", 1)
    two.add("2001:db8::1", 1)
    assert [each.others("192.0.2.1") for each in (one, two, three)] == [2, 1, 3]
    assert [each.others("2001:db8::1") for each in (one, two, three)] == [1, 0, 1]
    two.add("192.0.2.1", -1)
    assert [each.others("192.0.2.1") for each in (one, two, three)] == [1, 1, 2]
    one.add("192.0.2.1", -5)  # never less than nothing
    assert three.others("192.0.2.1") == 1


def test_a_worker_that_is_gone_counts_no_more(board: Board) -> None:
    """A dead worker's connections are forgotten, and its successor begins with none."""
    one, two, _ = views(board)
    two.add("192.0.2.1", 3)
    assert one.others("192.0.2.1") == 3
    board.vacate(2)
    assert one.others("192.0.2.1") == 0
    two.replace({"192.0.2.1": 2, "192.0.2.2": 1})
    assert (one.others("192.0.2.1"), one.others("192.0.2.2")) == (2, 1)


def test_more_workers(board: Board) -> None:
    """Workers that are added by a reload are seen by those who were there before."""
    one = board.neighbours(1)
    assert one.others("192.0.2.1") == 0
    board.resize(5)
    board.neighbours(5).add("192.0.2.1", 4)
    assert one.others("192.0.2.1") == 4


def test_many_addresses_do_not_disturb_each_other(board: Board) -> None:
    """Thousands of addresses beside it hardly ever make an address's count higher, and never lower."""
    one, two, _ = views(board)
    for number in range(5_000):
        two.add(f"10.0.{number // 250}.{number % 250}", 1)
    counts = [one.others(f"10.0.{number // 250}.{number % 250}") for number in range(5_000)]
    assert min(counts) == 1
    assert counts.count(1) >= 4_990
