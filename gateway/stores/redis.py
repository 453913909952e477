# -*- test-case-name: tests.stores.test_redis -*-
"""
Counters in Redis or Valkey: lets pass what the server's own script counts within the limit;
says nothing when it does not answer in time.

All requests of one turn of the reactor go in one call, however many users they are of. No
request waits longer than the time-out, and what waits is bounded. A call that timed out may
have counted all the same: more may be counted than has passed, never less.

Import this late, as L{gateway.stores.link}.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

from zope.interface import implementer

from gateway.admission.pending import Pending
from gateway.admission.windows import SlidingWindow
from gateway.interfaces import IBuckets
from gateway.stores.link import Connection, Link, said
from gateway.stores.script import Kind, answers, ask, command, looking, sha, source
from gateway.stores.url import StoreAddress

#: Keys in one call: the server does nothing else meanwhile (some 3 microseconds a key).
BATCH = 512

#: Requests that may wait for the server; beyond it there is no answer, at once.
MOST_WAITING = 20_000

#: Rules at a cost that are remembered; there are as many as routes, plans and costs.
_MOST_KINDS = 10_000

#: Seconds after which a connection that owes an answer is dropped and made anew.
GIVE_UP = 1.0


class _Batch:
    """
    One call and who waits for it; takes the reply itself.

    @ivar done: its requests are decided; a reply that still comes is for nobody.
    """

    __slots__ = ("_owner", "connection", "deadline", "done", "parts", "tries", "waiters")

    def __init__(self, owner: RedisBuckets, deadline: float) -> None:
        self._owner = owner
        self.deadline = deadline
        self.parts: list[tuple[Kind, list[str]]] = []
        self.waiters: list[Pending] = []
        self.connection: Connection | None = None
        self.done = False
        self.tries = 0

    def callback(self, reply: Any) -> None:
        """The reply, or an exception."""
        self._owner.answered(self, reply)


class _Nobody:
    """Takes a reply that nobody waits for."""

    def callback(self, _reply: Any) -> None:
        """Nothing."""


_NOBODY = _Nobody()


@implementer(IBuckets)
class RedisBuckets:
    """
    @param name: the gateway's: those of one name share counters.
    @param timeout: seconds.
    @param connections: how many are kept; one does, unless the network is slow.
    @ivar on_ready: called when a connection has been made.
    @ivar on_lost: called with the reason when there is no connection any more.
    @ivar trouble: why the last attempt to use the server failed.
    """

    def __init__(
        self,
        reactor: Any,
        address: StoreAddress,
        name: str = "gateway",
        timeout: float = 0.05,
        connections: int = 1,
        ca_file: str = "",
    ) -> None:
        self._reactor = reactor
        #: Calls at the turn's end; not every reactor has a cheap way.
        self._soon = getattr(reactor, "soon", partial(reactor.callLater, 0))
        self._tag = b"{%b}" % name.encode("ascii")
        self._timeout = timeout
        self._source = source()
        self._sha = sha(self._source)
        self._kinds: dict[tuple[Any, int], Kind] = {}
        self._asked: list[Kind] = []
        self._turn: Any = None
        self._flying: deque[_Batch] = deque()
        self._watch: Any = None
        self._waiting = 0
        self._next = 0
        self._begun = False
        self.on_ready: Any = None
        self.on_lost: Any = None
        self.trouble = "there is no connection yet"
        self._probe = Kind(self._tag, SlidingWindow(1_000_000_000, 1_000_000), 1)
        self._probe.prefix = self._tag + b":trial"
        self.links = [
            Link(reactor, address, ca_file, self._welcome, self._lost) for _ in range(connections)
        ]

    def only_look(self) -> None:
        """Say from now on what counting would say, and count nothing."""
        self._source = looking(self._source)
        self._sha = sha(self._source)

    def start(self) -> None:
        """Connect."""
        for link in self.links:
            link.start()

    def stop(self) -> None:
        """Let go of the connections; who waits gets no answer."""
        for link in self.links:
            link.stop()
        if self._turn is not None:
            self._turn.cancel()
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._turn = self._watch = None
        self._flush()
        while self._flying:
            self._fail(self._flying.popleft(), "the gateway stops")

    # -- asking

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Pending:
        """See L{IBuckets.take}; goes by the server's clock."""
        kind = self._kinds.get((rule, cost))
        if kind is None:
            kind = self._kind(rule, cost)
        pending = Pending(rule, key, now, cost)
        self._wait(kind, pending)
        return pending

    def probe(self) -> Pending:
        """Whether the server would count, and could write what it counted."""
        pending = Pending(self._probe.rule, "", 0, 1)
        self._wait(self._probe, pending)
        return pending

    def sweep(self, now: int) -> None:
        """Counters go by themselves on the server."""

    def retain(self, rules: Any) -> None:
        """See L{IBuckets.retain}; here it is ready-made arguments that go."""
        for kind in [kind for kind in self._kinds if kind[0] not in rules]:
            del self._kinds[kind]

    def _kind(self, rule: Any, cost: int) -> Kind:
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        kind = self._kinds[rule, cost] = Kind(self._tag, rule, cost)
        return kind

    def _wait(self, kind: Kind, pending: Pending) -> None:
        if self._waiting >= MOST_WAITING:
            pending.fail("too many requests wait for it")
            return
        if not kind.keys:
            self._asked.append(kind)
        kind.keys.append(pending.key)
        kind.waiters.append(pending)
        self._waiting += 1
        if self._turn is None:
            self._turn = self._soon(self._flush)

    def _flush(self) -> None:
        """The turn's end: all that is due in one call."""
        self._turn = None
        asked, self._asked = self._asked, []
        for batch in self._batches(asked):
            self._flying.append(batch)
            connection = self.connection()
            if connection is not None:
                self._send(batch, connection)
            elif self._begun:
                self._fail(batch, self.trouble)
            # Else the first connection is on its way: it takes them along.
        if self._watch is None and self._flying:
            self._watch = self._reactor.callLater(self._timeout, self._late)

    def _batches(self, asked: list[Kind]) -> list[_Batch]:
        deadline = self._reactor.seconds() + self._timeout
        batches: list[_Batch] = []
        room = 0
        for kind in asked:
            keys, waiters = kind.keys, kind.waiters
            kind.keys, kind.waiters = [], []
            at = 0
            while at < len(keys):
                if not room:
                    room = BATCH
                    batches.append(_Batch(self, deadline))
                part = keys[at : at + room]
                batches[-1].parts.append((kind, part))
                batches[-1].waiters += waiters[at : at + room]
                at += len(part)
                room -= len(part)
        return batches

    def connection(self) -> Connection | None:
        """The next of those there are, in turns."""
        for _ in self.links:
            self._next = (self._next + 1) % len(self.links)
            connection = self.links[self._next].connection
            if connection is not None:
                return connection
        return None

    def _send(self, batch: _Batch, connection: Connection) -> None:
        batch.connection = connection
        connection.ask(ask(batch.parts, self._sha), batch)

    # -- answers

    def answered(self, batch: _Batch, reply: Any) -> None:
        """A reply, or an exception, for a batch."""
        connection = batch.connection
        if connection is not None:
            connection.stuck = None
        if batch.done:
            return
        if isinstance(reply, Exception):
            self._refused(batch, reply)
            return
        try:
            counts = answers(batch.parts, reply)
        except ValueError as error:
            self._fail(batch, str(error))
            return
        self._end(batch)
        for waiter, count in zip(batch.waiters, counts, strict=True):
            waiter.settle(count)

    def _refused(self, batch: _Batch, error: Exception) -> None:
        text, connection = str(error), batch.connection
        if text.startswith("NOSCRIPT") and not batch.tries and connection is not None:
            batch.tries = 1
            connection.ask(command(b"SCRIPT", b"LOAD", self._source), _NOBODY)
            self._send(batch, connection)
            return
        self._fail(batch, said(error))
        if text.startswith("READONLY") and connection is not None:
            # Its name may lead to another server by now.
            connection.abort()

    def _fail(self, batch: _Batch, why: str) -> None:
        if batch.done:
            return
        self.trouble = why
        self._end(batch)
        for waiter in batch.waiters:
            waiter.fail(why)

    def _end(self, batch: _Batch) -> None:
        batch.done = True
        self._waiting -= len(batch.waiters)
        flying = self._flying
        while flying and flying[0].done:
            flying.popleft()

    # -- time

    def _late(self) -> None:
        # A busy turn of ours is no slowness of the server's: look at the sockets once more.
        self._watch = self._reactor.callLater(0, self._overdue)

    def _overdue(self) -> None:
        self._watch = None
        now = self._reactor.seconds()
        if self._flying and self._flying[0].deadline <= now:
            # What was asked since then waits behind it: it will be no sooner.
            late = list(self._flying)
            self._suspect(late[0].connection, now)
            for batch in late:
                self._fail(batch, f"it did not answer within {self._timeout * 1000:g} ms")
        if self._flying and self._watch is None:
            rest = max(0.0, self._flying[0].deadline - now)
            self._watch = self._reactor.callLater(rest, self._late)

    def _suspect(self, connection: Connection | None, now: float) -> None:
        if connection is None:
            return
        if connection.stuck is None:
            connection.stuck = now
        elif now - connection.stuck >= GIVE_UP:
            connection.abort()

    # -- connections

    def _welcome(self, connection: Connection) -> None:
        self._begun = True
        for batch in self._flying:
            if batch.connection is None and not batch.done:
                self._send(batch, connection)
        if self.on_ready is not None:
            self.on_ready()

    def _lost(self, why: str) -> None:
        # Who waited on the connection has been told by it.
        self._begun = True
        self.trouble = why
        for batch in list(self._flying):
            if batch.connection is None:
                self._fail(batch, why)
        if self.on_lost is not None and all(link.connection is None for link in self.links):
            self.on_lost(why)
