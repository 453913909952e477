"""What becomes of requests while the store can't be asked."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gateway.admission.pending import Pending
from gateway.admission.windows import Combined, Count, FixedWindow, Gcra, SlidingWindow
from gateway.stores.failover import LONG_REST, REST, Failover, share_of
from gateway.stores.memory import MemoryBuckets
from gateway.testing import FailingBuckets, SlowBuckets
from tests.contracts.buckets import NOW, SECOND

FINE = Count(True, SlidingWindow(1, SECOND), 0, 1)


class Remote(SlowBuckets):
    """A store whose answers and trials are the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.on_ready: Any = None
        self.on_lost: Any = None
        self.trials: list[Pending] = []

    def probe(self) -> Pending:
        self.trials.append(Pending(None, "", 0, 1))
        return self.trials[-1]


class Play:
    """A failover between a remote and a local store, on a clock of the test's."""

    def __init__(self, policy: str = "local", **options: Any) -> None:
        self.clock, self.remote, self.local = Clock(), Remote(), MemoryBuckets(100)
        self.failover = Failover(self.remote, self.local, self.clock, policy, **options)
        self.rule = SlidingWindow(4, 60 * SECOND)

    def take(self, rule: Any = None, cost: int = 1) -> Any:
        return self.failover.take(rule or self.rule, "sub:a", NOW, cost)

    def fall(self) -> Count:
        """The store does not answer a request: what becomes of that."""
        counting, found = self.take(), []
        counting.then(found.append, None)
        self.remote.waiting.pop(0).fail("it sleeps")
        assert found == [counting]
        assert isinstance(counting.count, Count)
        return counting.count


def test_the_store_decides_while_it_answers() -> None:
    """While it answers, its counts are passed on as they are."""
    play = Play()
    counting = play.take()
    count = Count(True, play.rule, 3, 7)
    play.remote.waiting[0].settle(count)
    assert counting.count == count
    assert (play.failover.down, play.failover.failures) == (False, 0)


def test_local() -> None:
    """local: the request that got no answer, and those after it, count in this process's share, at once."""
    play = Play(share=2)
    first = play.fall()
    assert (first.allowed, first.limit, first.remaining, first.note) == (True, 2, 1, "local")
    counts = [play.take() for _ in range(2)]
    assert [(count.allowed, count.note) for count in counts] == [(True, "local"), (False, "local")]
    assert play.remote.waiting == []
    assert play.failover.decided == {"local": 3, "open": 0, "closed": 0}


def test_local_without_others() -> None:
    """One process alone has the whole limit for itself."""
    assert Play().fall().limit == 4


def test_open() -> None:
    """open: everything passes uncounted."""
    play = Play("open")
    assert all(count.allowed and count.note == "open" for count in [play.fall(), *(play.take() for _ in range(9))])


def test_closed() -> None:
    """closed: nothing passes."""
    play = Play("closed")
    assert not any(count.allowed or count.note != "closed" for count in [play.fall(), *(play.take() for _ in range(9))])


def test_a_routes_own_policy() -> None:
    """A route may have a policy of its own."""
    own = SlidingWindow(4, 60 * SECOND, "/own")
    play = Play("local", policies={own.id: "closed"})
    assert play.fall().note == "local"
    assert play.take(own).note == "closed"


def test_other_settings() -> None:
    """After a reload the new policy and share hold, and what was counted stays counted."""
    play = Play("closed", share=2)
    play.fall()
    play.failover.reconfigure("local", {}, 2)
    assert [play.take().allowed for _ in range(3)] == [True, True, False]
    play.failover.reconfigure("local", {}, 1)
    assert play.take().limit == 4


def test_costs_above_the_share_pass_one_by_one() -> None:
    """A request that costs more than this process's share takes all of it, rather than never to pass."""
    play = Play(share=4)
    play.fall()
    play.clock = Clock()
    own = SlidingWindow(8, 60 * SECOND, "/own")
    assert [play.take(own, 5).allowed for _ in range(2)] == [True, False]


def test_trials_close_it_again() -> None:
    """One trial at a time, at intervals; the first that succeeds ends the state, and it is logged once each way."""
    play = Play()
    with capturedLogs() as logs:
        play.fall()
        for _ in range(50):
            play.take()
        assert play.remote.trials == []
        play.clock.advance(REST * 1.25)
        assert len(play.remote.trials) == 1
        play.clock.advance(60)
        assert len(play.remote.trials) == 1
        play.remote.trials[0].fail("still")
        play.clock.advance(REST * 1.25)
        assert play.failover.down
        play.remote.trials[1].settle(FINE)
        assert not play.failover.down
    assert isinstance(play.take(), Pending)
    levels = [event["log_level"].name for event in logs if "log_level" in event]
    assert levels == ["error", "info"]
    assert not play.clock.getDelayedCalls()


def test_a_new_connection_is_tried_at_once() -> None:
    """A store that is there again need not wait for the interval."""
    play = Play()
    play.fall()
    play.remote.on_ready()
    assert len(play.remote.trials) == 1
    play.remote.on_ready()
    assert len(play.remote.trials) == 1
    play.remote.trials[0].settle(FINE)
    assert not play.failover.down
    assert not play.clock.getDelayedCalls()


def test_a_lost_connection_is_noticed_without_requests() -> None:
    """When the last connection is lost the log says so at once, and the first request need not find out."""
    play = Play()
    play.remote.on_lost("it died")
    assert play.failover.down
    assert play.take().note == "local"


def test_an_unsteady_store_is_left_longer() -> None:
    """Each failure soon after a recovery doubles the rest, up to a bound within which a sound store is back."""
    play, rests = Play(), []
    for _ in range(6):
        play.fall()
        (call,) = play.clock.getDelayedCalls()
        rests.append(call.getTime() - play.clock.seconds())
        play.clock.advance(rests[-1])
        play.remote.trials.pop().settle(FINE)
    assert rests[0] <= REST * 1.25
    assert rests[-1] >= LONG_REST * 0.75
    assert max(rests) <= LONG_REST * 1.25
    play.clock.advance(60)
    play.fall()
    (call,) = play.clock.getDelayedCalls()
    assert call.getTime() - play.clock.seconds() <= REST * 1.25


def test_a_client_that_leaves() -> None:
    """A client that leaves while the store is asked does not put the store aside; a store that fails does."""
    play, found = Play(), []
    counting = play.take()
    counting.then(found.append, None)
    counting.forget()
    assert not play.failover.down
    play.remote.waiting[0].fail("it sleeps")
    assert (found, play.failover.down) == ([], True)


def test_a_store_that_fails_at_once() -> None:
    """A store that says no before anybody waits is one that failed."""
    play = Play()
    play.failover = Failover(FailsAtOnce(), play.local, play.clock)  # type: ignore[arg-type]
    assert play.take().note == "local"


class FailsAtOnce(FailingBuckets):
    on_ready: Any = None
    on_lost: Any = None


def test_stop() -> None:
    """Nothing is left behind at the end."""
    play = Play()
    play.fall()
    play.failover.stop()
    assert not play.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("rule", "share", "expected"),
    [
        (SlidingWindow(100, SECOND), 4, ["default|sliding-window:25/1000000"]),
        (FixedWindow(3, SECOND, "/a"), 4, ["/a|fixed-window:1/1000000"]),
        (Gcra(10, SECOND, 5), 2, ["default|gcra:5/1000000/2"]),
        (
            Combined([SlidingWindow(10, SECOND), FixedWindow(100, 9 * SECOND)], ietf=False), 3,
            ["default|sliding-window:3/1000000", "default|fixed-window:33/9000000"],
        ),
    ],
)  # fmt: skip
def test_shares(rule: Any, share: int, expected: list[str]) -> None:
    """Each window's limit is divided among the processes, and is at least 1; the fields told are the same."""
    part = share_of(rule, share)
    assert [window.id.decode() for window in part.windows] == expected
    assert (b"RateLimit-Policy" in part.windows[0].lines) == (b"RateLimit-Policy" in rule.windows[0].lines)
