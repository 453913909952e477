"""Who may accept before whom."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.share import Board, Place


@pytest.fixture
def board() -> Iterator[Board]:
    """The supervisor's page."""
    found = Board()
    yield found
    found.close()


def test_by_turns(board: Board) -> None:
    """A worker that is ahead lets the other go first; one that has gone need not be waited for."""
    board.resize(2)
    counts = {1: 0, 2: 0}
    one, two = (Place(n, board).share(lambda n=n: counts[n]) for n in (1, 2))
    assert one.my_turn()
    assert two.my_turn()
    counts[1] = 2
    assert not one.my_turn()
    assert two.my_turn()
    counts[2] = 1
    two.tell()
    assert one.my_turn()
    counts[1] = 50
    assert not one.my_turn()
    two.leave()
    assert one.my_turn()


def test_the_page_is_shared(board: Board) -> None:
    """What one process writes another one sees, through the descriptor alone."""
    board.resize(2)
    other = Board(os.dup(board.descriptor))
    other.write(1, 6)
    assert board.fewest() == 5
    board.resize(0)
    assert other.fewest() == 0
    other.close()


@given(st.lists(st.integers(0, 400), min_size=2, max_size=8), st.integers(0, 300))
def test_nobody_waits_for_ever_and_nobody_takes_all(counts: list[int], arrivals: int) -> None:
    """Whatever the counts are, somebody may go, and in the end nobody is ahead by more than an eighth and two."""
    board = Board()
    try:
        board.resize(len(counts))
        shares = [Place(n + 1, board).share(lambda n=n: counts[n]) for n in range(len(counts))]
        for share in shares:
            share.tell()
        first = list(counts)
        for _ in range(arrivals):
            willing = [n for n, share in enumerate(shares) if share.my_turn()]
            assert counts.index(min(counts)) in willing
            counts[willing[0]] += 1
            shares[willing[0]].tell()
        for had, has in zip(first, counts, strict=True):
            assert has == had or has <= min(counts) + 3 + min(counts) // 8
    finally:
        board.close()
