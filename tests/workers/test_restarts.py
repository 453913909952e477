"""When a dead worker's successor starts."""

from __future__ import annotations

from gateway.workers.restarts import FIRST_WAIT, LAST_WAIT, LIVED, Restarts


def test_one_that_lived_is_followed_at_once() -> None:
    """A worker that had served for long is replaced at once, however often that happens."""
    restarts = Restarts()
    assert [restarts.wait(1, LIVED) for _ in range(3)] == [0.0] * 3
    assert restarts.failures(1) == 0


def test_one_that_dies_soon_has_its_successors_wait() -> None:
    """Deaths soon after the start make the wait double, up to a bound; others' workers do not mind."""
    restarts = Restarts()
    for number in range(1, 40):
        longest = min(LAST_WAIT, FIRST_WAIT * 2 ** (number - 1))
        assert longest / 2 <= restarts.wait(1, 0.5) <= longest
        assert restarts.failures(1) == number
    assert restarts.wait(2, 0.5) <= FIRST_WAIT
    assert restarts.wait(1, LIVED + 1) == 0.0
    assert restarts.wait(1, 0.5) <= FIRST_WAIT
