"""
The lane against the nested stages when anything may happen in between: pieces, pauses, bytes nobody asked
for, clients and upstreams that leave, a limit on what is under way. Where the compiled half is built, it is
that which is tried; without it the same holds of the interpreted one.
"""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gateway.cores import COMPILED
from gateway.settings import parse
from gateway.stores.memory import MemoryBuckets
from tests.test_express import INI, TOKENS, Asked, Gateway, Transport

START = 1_700_000_000.0

#: Heads that come again and again, as most do.
HEADS = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n",
    b"GET /a/b?q=1 HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\n",
    b"DELETE /a/scoped HTTP/1.1\r\nHost: h\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: h\r\n",
    b"GET /a/staff HTTP/1.1\r\nHost: h\r\n",
    b"POST /a/quiet HTTP/1.1\r\nHost: h\r\n",
    b"GET /a/quiet HTTP/1.1\r\nHost: h\r\nConnection: close\r\n",
    b"GET /a/quiet HTTP/1.1\r\nHost: h\r\nOrigin: https://b.example\r\n",
    b"GET /open HTTP/1.1\r\nHost: h\r\n",
]
NEW_EACH_TIME = b"Cookie: c=%d\r\nTraceparent: 00-%032d\r\n"
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: s\r\n\r\nok",
    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: *\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntoo",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    b"nonsense\r\n\r\n",
]


class Late:
    """An upstream that answers when it is told to."""

    def __init__(self) -> None:
        self.transports: list[Transport] = []
        self.refused = False

    def connect(self, factory: Any) -> Any:
        made: Deferred[Any] = Deferred()
        if self.refused:
            made.errback(Failure(ConnectionDone()))
            return made
        connection = factory.buildProtocol(None)
        transport = Transport()
        transport.connection = connection  # type: ignore[attr-defined]
        self.transports.append(transport)
        connection.makeConnection(transport)
        made.callback(connection)
        return made


class Watched(dict[Any, None]):
    """A set whose order is the same in every world."""

    def add(self, thing: Any) -> None:
        """See C{set.add}."""
        self[thing] = None

    def discard(self, thing: Any) -> None:
        """See C{set.discard}."""
        self.pop(thing, None)


class Decided(MemoryBuckets):
    """Counters that are known at once, though some are decided without the store, and some find no room."""

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Any:
        """See L{IBuckets.take}."""
        count, how = super().take(rule, key, now, cost), now // 1_000_000 % 7
        note = {1: "local", 2: "open", 3: "closed"}.get(how, "")
        return count._replace(allowed=False, retry_after=1, full=True) if how == 4 else count._replace(note=note)


COUNTERS: dict[str, type[MemoryBuckets]] = {"memory": MemoryBuckets, "decided": Decided, "asked": Asked}


class World(Gateway):
    """
    A gateway, its clients and its upstream, and what happened to them so far.

    @ivar said: everything that left it, in its order.
    """

    upstream: Late  # type: ignore[assignment]

    def __init__(self, lane: bool, patches: pytest.MonkeyPatch, counters: str = "memory") -> None:
        self.now = [START]
        super().__init__(lane, patches, self.now, parse(INI, {}), buckets=COUNTERS[counters])
        self.upstream = Late()
        for pool in self.service.generation.targets._pools.values():
            pool._endpoint = self.upstream  # type: ignore[assignment]
        self.said: list[Any] = []
        self.service.site.sweep._watched = Watched(dict.fromkeys(self.service.site.sweep._watched))  # type: ignore[assignment]

    def channel(self, peer: str) -> Any:
        """That client's connection, a new one where it has ended."""
        channel = self.channels.get(peer)
        if channel is None or channel.transport.disconnecting:
            if channel is not None:
                self.gone(channel)
            channel = self.channels[peer] = self.service.site.buildProtocol(None)  # type: ignore[assignment]
            assert channel is not None
            channel.makeConnection(Transport(peer))
        return channel

    def gone(self, protocol: Any) -> None:
        """A connection ends, from without or because the gateway wanted it."""
        transport = protocol.transport
        if not getattr(transport, "gone", False):
            transport.gone = transport.disconnecting = True
            protocol.connectionLost(Failure(ConnectionDone()))
            transport.close()

    def heard(self) -> None:
        """Note what has left."""
        for peer, channel in self.channels.items():
            self._note(peer, channel.transport)
        for number, transport in enumerate(self.upstream.transports):
            self._note(number, transport)
            if transport.disconnecting:
                self.gone(transport.connection)  # type: ignore[attr-defined]
        self.said += self.rows
        self.rows.clear()

    def _note(self, whose: Any, transport: Transport) -> None:
        if transport.value() or (transport.disconnecting and not getattr(transport, "told", False)):
            self.said.append((whose, re.sub(rb"Date: [^\r]+", b"", transport.value()), transport.disconnecting))
            transport.told = transport.disconnecting  # type: ignore[attr-defined]
            transport.clear()

    def close(self) -> None:
        """Everybody leaves."""
        for channel in self.channels.values():
            self.gone(channel)
        for transport in self.upstream.transports:
            self.gone(transport.connection)  # type: ignore[attr-defined]


def happenings(seed: int) -> Iterator[tuple[Any, ...]]:
    """What happens, the same in every world: who does it and with what."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    peers = ["192.0.2.1", "198.51.100.2", "198.51.100.3", "203.0.113.4"]
    for number in range(4000):
        peer, which, turn = dice.choice(peers), dice.random(), dice.random()
        if which < 0.45:
            raw = request(dice, number)
            cuts = sorted(dice.sample(range(1, len(raw)), 2)) if dice.random() < 0.1 else []
            yield ask, peer, [raw[one:other] for one, other in zip([0, *cuts], [*cuts, None], strict=True)]
        elif which < 0.85:
            data = dice.choice(ANSWERS) if dice.random() < 0.25 else dice.choice(ANSWERS[:2])
            at = dice.randrange(1, len(data)) if dice.random() < 0.1 else len(data)
            yield answer, turn, (data[:at], data[at:])
        elif which < 0.88:
            yield leave, peer
        elif which < 0.90:
            yield leave_half, peer
        elif which < 0.92:
            yield with_one, turn, World.gone
        elif which < 0.93:
            yield with_one, turn, speak_unasked
        elif which < 0.94:
            yield refuse_others, turn < 0.2
        elif dice.random() < 0.7:
            yield (count_all,)
        elif which < 0.95:
            yield with_one, turn, hang
        else:
            yield later, dice.choice([0.0, 0.0031, 1.0, 7.0, 700.0])


def ask(world: World, peer: str, pieces: list[bytes]) -> None:
    """A client sends a request."""
    for piece in pieces:
        world.channel(peer).dataReceived(piece)


def leave(world: World, peer: str) -> None:
    """A client's connection ends."""
    world.gone(world.channel(peer))


def leave_half(world: World, peer: str) -> None:
    """A client has said its last word."""
    world.channel(peer).readConnectionLost()


def speak_unasked(_world: World, connection: Any) -> None:
    """An upstream says something, which waits in the socket until somebody looks."""
    connection.transport.theirs.send(b"x")


def hang(_world: World, connection: Any) -> None:
    """An upstream is late."""
    connection.expire()


def count_all(world: World) -> None:
    """A store that had to be asked answers."""
    if isinstance(world.service.buckets, Asked):
        world.service.buckets.answer()


def refuse_others(world: World, refuse: bool) -> None:
    """The upstream takes no more connections, or takes them again."""
    world.upstream.refused = refuse


def request(dice: random.Random, number: int) -> bytes:
    """A request, mostly in order."""
    raw = dice.choice(HEADS[:3]) if dice.random() < 0.7 else dice.choice(HEADS)
    if dice.random() < 0.3:
        raw += NEW_EACH_TIME % (number, number)
    if dice.random() < 0.9:
        name = b"authorization: " if dice.random() < 0.2 else b"Authorization: "
        raw += name + dice.choice(TOKENS) + b"\r\n"
    if dice.random() < 0.2:
        raw += b"Accept: */*\r\n"
    raw += b"\r\n"
    if dice.random() < 0.1:
        at = dice.randrange(len(raw))
        raw = raw[:at] + dice.choice([b"", b"\r\n", b"\x00", b":", b" ", b"\r\n\r\n", raw[at : at + 9]]) + raw[at + dice.randrange(3) :]
    if dice.random() < 0.05:
        raw += raw
    return raw


def with_one(world: World, turn: float, act: Callable[[World, Any], object]) -> None:
    """Something happens to one of the upstream's connections."""
    alive = [each for each in world.upstream.transports if not each.disconnecting]
    if alive:
        act(world, alive[int(turn * len(alive))].connection)  # type: ignore[attr-defined]


def answer(world: World, turn: float, pieces: tuple[bytes, ...]) -> None:
    """One who was asked answers, in one piece or two."""
    asked = [each for each in world.upstream.transports if not each.disconnecting and each.connection._asker is not None]  # type: ignore[attr-defined]
    if asked:
        transport = asked[int(turn * len(asked))]
        for piece in pieces:
            if piece and not transport.disconnecting:
                transport.connection.dataReceived(piece)  # type: ignore[attr-defined]


def later(world: World, seconds: float) -> None:
    """Time passes."""
    world.now[0] += seconds
    clock: Clock = world.service.site.sweep._clock  # type: ignore[assignment]
    clock.advance(seconds)


@pytest.mark.parametrize("counters", COUNTERS)
@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_whatever_happens_both_ways_are_one(patches: pytest.MonkeyPatch, seed: int, counters: str) -> None:
    """Every byte to clients and upstreams, every end of a connection and every row, in their order."""
    worlds = []
    for lane in (True, False):
        world = World(lane, patches, counters)
        world.service.site.sweep.start()
        worlds.append(world)
        try:
            for number, (act, *more) in enumerate(happenings(seed)):
                world.said.append(number)
                act(world, *more)
                world.heard()
        finally:
            world.close()
            world.service.site.sweep.stop()
    one, other = worlds
    for number, (left, right) in enumerate(zip(one.said, other.said, strict=False)):
        assert left == right, one.said[max(0, number - 8) : number]
    assert len(one.said) == len(other.said)
    rows = [each for each in one.said if isinstance(each, tuple) and len(each) == 15]
    assert {row[11] for row in rows} >= {"", "client_gone", "no_token", "limit"}
    assert sum(row[5] == 200 for row in rows) > 30
    assert one.service.lasting.flying.count == other.service.lasting.flying.count == 0


@pytest.mark.skipif(not COMPILED, reason="the compiled half is not built, or not wanted")
def test_the_compiled_lane_is_taken_and_leaves_nothing(patches: pytest.MonkeyPatch) -> None:
    """A known head with a known token makes no request of the interpreted kind, and nothing outlives it."""
    from gateway.compiled.express import Flight

    world = World(True, patches)
    try:
        raw = HEADS[0] + b"Authorization: " + TOKENS[0] + b"\r\n\r\n"
        made: list[object] = []
        for number in range(8):
            if number == 4:
                patches.setattr("gateway.http.channel.Request.__init__", lambda *_: made.append(1))
            world.channel("192.0.2.1").dataReceived(raw)
            world.now[0] += 100.0
            answer(world, 0.0, (ANSWERS[0],))
        assert not made
        assert world.rows[-1][5] == 200
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Flight]
    finally:
        world.close()
