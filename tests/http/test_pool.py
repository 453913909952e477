"""Tests for gateway.http.pool, without sockets or a real clock."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as TimedOut
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gateway.http.fields import FieldRules
from gateway.http.pool import Pool, PoolLimits
from gateway.http.response_heads import ResponseHeads
from gateway.http.sweep import Sweep


class Transport(StringTransport):
    """One that can be cut."""

    def abortConnection(self) -> None:
        self.disconnected = True


class Endpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.pending: list[tuple[Any, Deferred[Any]]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.pending.append((factory, Deferred()))
        return self.pending[-1][1]

    def succeed(self) -> Any:
        factory, waiting = self.pending.pop(0)
        connection = factory.buildProtocol(None)
        connection.makeConnection(Transport())
        waiting.callback(connection)
        return connection

    def fail(self, error: Exception) -> None:
        self.pending.pop(0)[1].errback(error)


class Waiting:
    """Who waits."""

    got: Any = None
    why = ""

    def connected(self, connection: Any) -> None:
        self.got = connection

    def unavailable(self, why: str) -> None:
        self.why = why


def made(**limits: float) -> tuple[Pool, Endpoint, Clock]:
    """A pool, its endpoint, its clock."""
    clock, endpoint = Clock(), Endpoint()
    sweep = Sweep(clock)
    sweep.start()
    heads = ResponseHeads(FieldRules(frozenset(), frozenset(), frozenset()))
    return Pool(endpoint, heads, sweep, PoolLimits(**limits)), endpoint, clock  # type: ignore[arg-type]


def idle(pool: Pool, endpoint: Endpoint) -> Any:
    """An idle connection."""
    waiting = Waiting()
    pool.wait(waiting)
    connection = endpoint.succeed()
    assert waiting.got is connection
    pool.release(connection)
    return connection


def test_who_posts_takes_no_old_connection() -> None:
    """A request that must not be sent twice takes no connection that was idle for a second."""
    pool, endpoint, clock = made()
    connection = idle(pool, endpoint)
    assert pool.take(idempotent=False) is connection
    pool.release(connection)
    clock.pump([1.0] * 2)
    assert pool.take(idempotent=False) is None
    assert pool.take(idempotent=True) is connection


def test_failures_are_told_to_one_each() -> None:
    """A refused attempt is one waiter's end, by its kind."""
    pool, endpoint, _ = made()
    first, second = Waiting(), Waiting()
    pool.wait(first)
    pool.wait(second)
    endpoint.fail(Refused())
    endpoint.fail(TimedOut())
    assert (first.why, second.why, len(pool)) == ("refused", "timeout", 0)


def test_a_free_connection_goes_to_who_waits_longest() -> None:
    """At the bound a free connection serves the queue in order; beyond the queue there is no room."""
    pool, endpoint, _ = made(connections=1, queue=2)
    holder = Waiting()
    pool.wait(holder)
    connection = endpoint.succeed()
    queue = [Waiting() for _ in range(3)]
    for each in queue:
        pool.wait(each)
    assert queue[2].why == "queue"
    pool.release(connection)
    assert (queue[0].got, queue[1].got) == (connection, None)
    pool.leave(queue[1])
    pool.release(connection)
    assert queue[1].got is None
    assert pool.take(True) is connection


def test_idle_connections_end() -> None:
    """Idle connections beyond their number end in a moment, unless they are asked again, the others in their time."""
    pool, endpoint, clock = made(idle_connections=1, idle_timeout=5.0)
    waiting = [Waiting(), Waiting()]
    for each in waiting:
        pool.wait(each)
    one, two = endpoint.succeed(), endpoint.succeed()
    pool.release(one)
    pool.release(two)
    assert pool.take(True) is two
    pool.release(two)
    clock.pump([1.0] * 2)
    assert (one.transport.disconnected, two.transport.disconnected) == (False, True)
    clock.pump([1.0] * 6)
    assert one.transport.disconnected
    assert pool.take(True) is None


def test_a_dead_connection_makes_room() -> None:
    """When a connection dies, who waits for it gets a new one."""
    pool, endpoint, _ = made(connections=1)
    pool.wait(Waiting())
    connection = endpoint.succeed()
    waiting = Waiting()
    pool.wait(waiting)
    assert endpoint.pending == []
    connection.close()
    assert waiting.got is None
    assert endpoint.succeed() is waiting.got


def test_a_full_pool_keeps_the_connection_used_last() -> None:
    """
    Idle connections too old for a request that must not be sent twice do not keep out the one it has opened: the next
    such request finds that one.
    """
    pool, endpoint, clock = made(idle_connections=2)
    old = [idle(pool, endpoint)]
    taken, waiting = pool.take(idempotent=True), Waiting()
    pool.wait(waiting)
    old.append(endpoint.succeed())
    pool.release(old[0])
    pool.release(old[1])
    assert taken is old[0]
    clock.pump([1.0] * 3)
    assert pool.take(idempotent=False) is None
    pool.wait(waiting)
    fresh = endpoint.succeed()
    pool.release(fresh)
    assert [each.transport.disconnected for each in (*old, fresh)] == [True, False, False]
    assert pool.take(idempotent=False) is fresh


def test_bytes_on_an_idle_connection_end_it() -> None:
    """What nobody asked for ends the connection."""
    pool, endpoint, _ = made()
    connection = idle(pool, endpoint)
    connection.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
    assert connection.transport.disconnected
    assert pool.take(True) is None


def test_our_own_shortage_is_not_the_targets() -> None:
    """Out of file descriptors, a request is told that there is no room: no circuit opens for it."""
    pool, endpoint, _ = made()
    waiting = Waiting()
    pool.wait(waiting)
    endpoint.fail(ConnectBindError(errno.EMFILE, "Too many open files"))
    assert waiting.why == "queue"


def test_a_retired_pool_serves_those_on_their_way() -> None:
    """A pool whose target has gone keeps no idle connection, and serves whom it has and who still comes."""
    pool, endpoint, clock = made(connections=1)
    at_rest = idle(pool, endpoint)
    assert pool.take(idempotent=True) is at_rest
    waiting, late = Waiting(), Waiting()
    pool.wait(waiting)
    pool.retire()
    assert not at_rest.transport.disconnected
    pool.release(at_rest)
    assert waiting.got is at_rest
    pool.release(at_rest)
    assert at_rest.transport.disconnected
    assert len(pool) == 0
    pool.wait(late)
    connection = endpoint.succeed()
    assert late.got is connection
    pool.release(connection)
    assert connection.transport.disconnected
    clock.pump([1.0] * 100)
    assert pool not in pool.sweep._watched
