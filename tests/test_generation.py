"""What goes on when another configuration comes, what begins anew, and what ends; without sockets."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from gateway.answers import fault
from gateway.audit.memory import MemoryAuditLog
from gateway.build import shadow_counts
from gateway.exchange import Exchange
from gateway.generation import Lasting, beat, generation, hold
from gateway.http.site import Door, Site
from gateway.http.sweep import Sweep
from gateway.reloading import until_restart
from gateway.settings import Settings, parse
from gateway.stores.memory import MemoryBuckets
from tests.system.tools import SECRET, request, token

ENVIRON = {"JWT_SECRET": SECRET, "OTHER_SECRET": SECRET[::-1]}
INI = """
[gateway]
max_requests_in_flight = {most}
max_connections = {connections}
[jwt]
secret = {secret}
{jwt}
[ratelimit]
limit = {limit}
[breaker]
failures = {failures}
[upstream]
connections = 1
{routes}
"""
ONE = "[route /one]\nupstream = http://127.0.0.1:9001\n"
TWO = "[route /two]\nupstream = http://127.0.0.1:9002\nratelimit.limit = 2\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def settings(routes: str = ONE + TWO, **changed: object) -> Settings:
    """A configuration."""
    values = {
        "most": 0, "connections": 100, "secret": "${JWT_SECRET}", "jwt": "", "limit": 3, "failures": 5, **changed,
    }  # fmt: skip
    return parse(INI.format(routes=routes, **values), ENVIRON)


class Transport(StringTransport):
    """One with an end, of which its protocol hears."""

    ended = False

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol
        protocol.makeConnection(self)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.9", 1234)

    def abortConnection(self) -> None:
        if not self.ended:
            self.ended = True
            protocol, self._protocol = self._protocol, None
            protocol.connectionLost(Failure(ConnectionDone()))

    loseConnection = abortConnection


class Port:
    """A listening port that tells whether it accepts."""

    accepting = True

    def stopReading(self) -> None:
        self.accepting = False

    def startReading(self) -> None:
        self.accepting = True


class Gateway:
    """A site with a generation, on a reactor in memory."""

    def __init__(self, **changed: Any) -> None:
        self.reactor: Any = MemoryReactorClock()
        first = settings(**changed)
        sweep = Sweep(self.reactor, beat(first))
        sweep.start()
        self.audit = MemoryAuditLog()
        self.buckets = MemoryBuckets(1000)
        self.lasting = Lasting(
            self.reactor, sweep, self.audit, self.buckets, now=lambda: 1000.0, clock=self.reactor.seconds
        )
        self.upstreams: list[tuple[Any, Transport]] = []
        self.serving = made = generation(first, self.lasting)
        self.site = Site(made.resource, made.heads, sweep, made.limits, fault, Exchange)
        hold(made, self.lasting, self.site)

    def reload(self, **changed: Any) -> None:
        """Another configuration comes into force."""
        self.serving = generation(settings(**changed), self.lasting, self.serving)
        hold(self.serving, self.lasting, self.site)

    def connect(self, door: Any = None) -> tuple[Any, Transport]:
        """A client."""
        channel = (door or self.site).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1234))
        return channel, Transport(channel)

    def status(self, path: str, sub: str = "alice", answer: bytes = GOOD) -> int:
        """The status of a request on a connection of its own, whose upstream answers at once."""
        channel, transport = self.connect()
        channel.dataReceived(request(path, tok=token(sub, exp=2_000_000_000)))
        self.upstream(answer)
        transport.abortConnection()
        return status(transport)

    def upstream(self, answer: bytes = GOOD) -> tuple[Any, Transport]:
        """Connections that are waited for come about; with an answer, the first one asked gives it."""
        for _, _, factory, _, _ in self.reactor.tcpClients:
            connection = factory.buildProtocol(None)
            self.upstreams.append((connection, Transport(connection)))
        self.reactor.tcpClients.clear()
        self.reactor.connectors.clear()
        for connection, transport in self.upstreams:
            if answer and transport.value() and not transport.ended:
                transport.clear()
                connection.dataReceived(answer)
                return connection, transport
        return self.upstreams[-1] if self.upstreams else (None, None)  # type: ignore[return-value]


def status(transport: Transport) -> int:
    """The last status written."""
    return int(transport.value().rpartition(b"HTTP/1.1 ")[2][:3])


@pytest.fixture
def gateway() -> Gateway:
    """One with two routes."""
    return Gateway()


@pytest.fixture
def no_collections() -> Iterator[None]:
    """What goes must go without the garbage collector: the daemon's sees what is old seldom or never."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_an_equal_configuration_changes_nothing(gateway: Gateway) -> None:
    """A file that means the same keeps counters, verified tokens and connections."""
    before = gateway.serving
    assert gateway.status("/one") == 200
    gateway.reload()
    after = gateway.serving
    assert after is not before
    assert after.resource is not before.resource
    assert gateway.status("/one") == 200
    assert len(gateway.upstreams) == 1
    assert after.tokens is before.tokens
    assert after.rules.all("rate") == before.rules.all("rate")
    assert after.rules.all("identity") == before.rules.all("identity")


def test_counters_survive(gateway: Gateway) -> None:
    """A user at the limit is at the limit after a reload; so is one of a route's own limit."""
    for _ in range(3):
        gateway.status("/elsewhere")
    for _ in range(2):
        gateway.status("/two")
    assert (gateway.status("/elsewhere"), gateway.status("/two")) == (429, 429)
    gateway.reload(routes=TWO.replace("9002", "9003") + ONE, jwt="leeway = 5s", failures=7)
    assert (gateway.status("/elsewhere"), gateway.status("/two")) == (429, 429)


def test_another_limit_is_another_counter(gateway: Gateway) -> None:
    """A limit that has changed counts from nothing; the others go on."""
    for _ in range(3):
        gateway.status("/elsewhere")
    for _ in range(2):
        gateway.status("/two")
    gateway.reload(limit=5)
    assert [gateway.status("/elsewhere") for _ in range(6)] == [404] * 5 + [429]
    assert gateway.status("/two") == 429


def test_counters_of_rules_that_have_gone_are_forgotten(gateway: Gateway) -> None:
    """The counters of a limit that is no more take no room."""
    for sub in ("a", "b"):
        gateway.status("/two", sub)
    gateway.status("/elsewhere", "c")
    assert gateway.buckets.size() == 3
    gateway.reload(routes=ONE)
    assert gateway.buckets.size() == 1
    gateway.buckets.sweep(0)
    gateway.reload()
    assert gateway.status("/two", "a") == 200


def test_two_routes_with_one_limit_count_alone() -> None:
    """Limits of two routes that say the same are two counters, whatever is reloaded."""
    routes = TWO + TWO.replace("/two", "/three")
    gateway = Gateway(routes=routes)
    for _ in range(2):
        for _ in range(2):
            gateway.reload(routes=routes)
        assert gateway.status("/two") == 200
    assert gateway.status("/two") == 429
    assert gateway.status("/three") == 200


def test_counters_of_plans_and_of_refused_tokens_survive() -> None:
    """A plan's counters and those of refused tokens go on while they say the same; what has gone takes no room."""
    plans = "plan_claim = plan\nrefused = 2/60s\n"
    gold = "[plan gold]\nlimits = 2/60s, 5/1h\n"
    gateway = Gateway(limit=f"1\n{plans}", routes=gold + ONE)

    def ask(**claims: str) -> int:
        channel, transport = gateway.connect()
        channel.dataReceived(request("/elsewhere", tok=token(exp=2_000_000_000, **claims)))
        transport.abortConnection()
        return status(transport)

    def stranger() -> int:
        channel, transport = gateway.connect()
        channel.dataReceived(request("/elsewhere", tok=token(exp=2_000_000_000)[:-8] + "AAAAAAAA"))
        transport.abortConnection()
        return status(transport)

    assert [ask(plan="gold"), ask(plan="gold"), ask(plan="gold"), ask()] == [404, 404, 429, 404]
    assert [stranger(), stranger(), stranger()] == [401, 401, 429]
    gateway.reload(limit=f"2\n{plans}", routes=gold + ONE.replace("/one", "/two"))
    assert (ask(plan="gold"), stranger(), ask()) == (429, 429, 404)
    size = gateway.buckets.size()
    gateway.reload(limit=f"2\n{plans.replace('2/', '3/')}", routes=gold.replace("limits = 2", "limits = 3") + ONE)
    assert gateway.buckets.size() == size - 1
    assert (ask(plan="gold"), stranger()) == (404, 401)


def test_counts_of_shadow_mode_survive(gateway: Gateway) -> None:
    """What would have been refused is counted across reloads, also those without a gate in shadow mode."""
    shadowed = ONE + "require.role = nobody\nrequire.mode = shadow\n"
    for routes, expected in ((shadowed, 200), (ONE + "require.role = nobody\n", 403), (shadowed, 200)):
        gateway.reload(routes=routes)
        assert gateway.status("/one") == expected
    assert shadow_counts(gateway.serving.rules) == {("/one", "policy"): 2}


def test_another_key_refuses_old_tokens_at_once(gateway: Gateway) -> None:
    """When the secret changes, a token of the old one is refused though it was verified a moment ago."""
    assert gateway.status("/elsewhere") == 404
    gateway.reload(secret="${OTHER_SECRET}")
    assert gateway.status("/elsewhere") == 401
    gateway.reload()
    assert gateway.status("/elsewhere") == 404


def test_verified_tokens_survive(gateway: Gateway) -> None:
    """Verified tokens stay while their key and rules do, within the cache's new bounds."""
    for sub in ("a", "b", "c"):
        gateway.status("/elsewhere", sub)
    gateway.reload(routes=ONE, limit=100)
    assert len(gateway.serving.tokens) == 3
    gateway.reload(jwt="cache = 2")
    assert len(gateway.serving.tokens) == 2
    gateway.reload(jwt="leeway = 1s")
    assert len(gateway.serving.tokens) == 0


def test_rules_change_for_the_next_request_of_a_connection(gateway: Gateway) -> None:
    """The next request on a connection that stays meets the new rules; new routes are there, old ones gone."""
    channel, transport = gateway.connect()

    def next_status(path: str) -> int:
        transport.clear()
        channel.dataReceived(request(path))
        gateway.upstream()
        return status(transport)

    assert (next_status("/one/x"), next_status("/three/x")) == (200, 404)
    gateway.reload(routes=ONE.replace("/one", "/three"), limit=100)
    assert (next_status("/one/x"), next_status("/three/x")) == (404, 200)
    gateway.reload(routes=ONE + "require.role = nobody", limit=100)
    assert next_status("/one/x") == 403
    assert not transport.ended


def test_what_is_under_way_ends_under_the_old_rules(gateway: Gateway) -> None:
    """A request whose route has gone gets its answer, also when it still waited for a connection."""
    clients = [gateway.connect() for _ in range(2)]
    for channel, _ in clients:
        channel.dataReceived(request("/one/x"))
    _, wire = gateway.upstream(b"")
    gateway.reload(routes=TWO, secret="${OTHER_SECRET}")
    assert not wire.ended
    gateway.upstream()
    assert status(clients[0][1]) == 200
    assert not wire.ended  # the second, which has waited for it, is served by it
    gateway.upstream()
    assert status(clients[1][1]) == 200
    assert wire.ended
    assert [row[5] for row in gateway.audit.rows] == [200, 200]


def test_who_waits_for_a_removed_target_waits_no_longer_than_told(gateway: Gateway) -> None:
    """queue_timeout holds for those who wait for a connection to a target that has gone."""
    clients = [gateway.connect() for _ in range(2)]
    for channel, _ in clients:
        channel.dataReceived(request("/one/x"))
    gateway.upstream(b"")
    gateway.reload(routes=TWO)
    gateway.reactor.pump([1.0] * 8)
    assert not clients[0][1].value()
    assert status(clients[1][1]) == 503


def test_connections_to_targets(gateway: Gateway) -> None:
    """Idle connections to a target that stays are used again; those to one that has gone are closed."""
    assert gateway.status("/one/x") == 200
    gateway.reload(routes=ONE.replace("/one", "/three"), limit=100)
    assert gateway.status("/three/x") == 200
    [(_, wire)] = gateway.upstreams
    assert not wire.ended
    gateway.reload(routes=TWO)
    assert wire.ended


def test_circuits_go_on(gateway: Gateway) -> None:
    """A circuit that is open stays open; its numbers are the new ones when the new rules hold, not before."""
    bad = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
    generation(settings(failures=1), gateway.lasting, gateway.serving)  # never holds
    assert [gateway.status("/one", str(n), bad) for n in range(2)] == [503, 503]
    assert gateway.status("/one", "a") == 200
    gateway.reload(failures=2)
    assert [gateway.status("/one", str(n), bad) for n in range(2)] == [503, 503]
    assert gateway.status("/one", "a") == 503
    gateway.reload(failures=9, routes=ONE.replace("/one", "/three"))
    assert gateway.status("/three", "a") == 503
    gateway.reload(routes=TWO)
    gateway.reload()
    assert gateway.status("/one", "c") == 200  # forgotten with its address
    assert [gateway.status("/one", str(n), bad) for n in range(4, 8)] == [503] * 4
    assert gateway.status("/one", "b") == 200


def test_bounds_of_connections_change(gateway: Gateway) -> None:
    """A lower max_connections stops accepting at once, a higher one begins again; ports opened meanwhile wait, too."""
    port, later = Port(), Port()
    gateway.site.listening(port)
    clients = [gateway.connect() for _ in range(3)]
    gateway.reload(connections=2)
    gateway.site.listening(later)
    assert (port.accepting, later.accepting) == (False, False)
    gateway.reload(connections=4)
    assert (port.accepting, later.accepting) == (True, True)
    gateway.reload(connections=3)
    clients[0][1].abortConnection()
    assert port.accepting


def test_time_outs_change_from_the_next_wait_on(gateway: Gateway) -> None:
    """A connection that is open gets the new idle_timeout after its next answer; beats come as often as that needs."""
    channel, transport = gateway.connect()
    channel.dataReceived(request("/elsewhere"))
    gateway.reload(connections="100\nidle_timeout = 2s")
    assert gateway.lasting.sweep.interval == 0.5
    gateway.reactor.pump([0.5] * 20)
    assert not transport.ended
    channel.dataReceived(request("/elsewhere"))
    gateway.reactor.pump([0.5] * 4)
    assert not transport.ended
    gateway.reactor.pump([0.5] * 3)
    assert transport.ended


def test_a_door_that_closes(gateway: Gateway) -> None:
    """Connections of a listener that goes end with their answers; those of others do not notice."""
    door, other = Door(gateway.site), Door(gateway.site)
    busy, idle, stays = gateway.connect(door), gateway.connect(door), gateway.connect(other)
    busy[0].dataReceived(request("/one/x"))
    leaving = gateway.site.drain_door(door)
    assert set(leaving) == {busy[0], idle[0]}
    assert not idle[1].ended  # it has time for a last request
    for channel in leaving:
        channel.close_if_idle()
    assert (busy[1].ended, idle[1].ended, stays[1].ended) == (False, True, False)
    gateway.upstream()
    assert b"Connection: close\r\n" in busy[1].value()
    assert busy[1].ended
    stays[0].dataReceived(request("/elsewhere"))
    assert b"Connection: close" not in stays[1].value()
    stays[1].abortConnection()
    assert len(gateway.site) == 0


def test_a_door_whose_time_is_up(gateway: Gateway) -> None:
    """An answer that had begun when its listener went is finished whole, and its connection ends then."""
    door = Door(gateway.site)
    channel, transport = gateway.connect(door)
    channel.dataReceived(request("/one/x"))
    connection, _ = gateway.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndo")
    for leaving in gateway.site.drain_door(door):
        assert not leaving.close_if_idle()
    connection.dataReceived(b"ne")
    assert transport.value().endswith(b"\r\n\r\ndone")
    assert b"Connection: close" not in transport.value()
    assert transport.ended


def test_draining(gateway: Gateway) -> None:
    """While draining: no new connection, Connection: close on every answer, silent connections stay until told."""
    busy, idle, asks = gateway.connect(), gateway.connect(), gateway.connect()
    busy[0].dataReceived(request("/one/x"))
    ended: list[None] = []
    gateway.site.drain().addCallback(ended.append)
    assert gateway.site.buildProtocol(IPv4Address("TCP", "192.0.2.9", 1234)) is None
    asks[0].dataReceived(request("/elsewhere") + request("/elsewhere"))  # the second can't be answered any more
    assert asks[1].value().count(b"HTTP/1.1 404") == 1
    assert b"Connection: close\r\n" in asks[1].value()
    assert (asks[1].ended, idle[1].ended, busy[1].ended) == (True, False, False)
    assert gateway.site.close_idle() == 1
    assert (idle[1].ended, busy[1].ended, ended) == (True, False, [])
    gateway.upstream()
    assert b"HTTP/1.1 200" in busy[1].value()
    assert b"Connection: close\r\n" in busy[1].value()
    assert (busy[1].ended, ended) == (True, [None])


def test_a_promise_is_kept_while_draining(gateway: Gateway) -> None:
    """A connection whose answer had begun before, and promised to go on, has one more request answered."""
    channel, transport = gateway.connect()
    channel.dataReceived(request("/one/x"))
    connection, _ = gateway.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndo")
    gateway.site.drain()
    connection.dataReceived(b"ne")
    assert b"Connection: close" not in transport.value()
    assert not transport.ended
    transport.clear()
    channel.dataReceived(request("/elsewhere"))
    assert b"Connection: close\r\n" in transport.value()
    assert transport.ended


def test_cutting(gateway: Gateway) -> None:
    """What is cut is over at once, and its row says so."""
    channel, transport = gateway.connect()
    channel.dataReceived(request("/one/x"))
    gateway.upstream(b"")
    gateway.site.drain()
    gateway.site.cut()
    assert (transport.ended, transport.value(), len(gateway.site)) == (True, b"", 0)
    assert [(row[5], row[11]) for row in gateway.audit.rows] == [(499, "cut")]
    assert all(wire.ended for _, wire in gateway.upstreams)


def test_requests_in_flight() -> None:
    """Beyond max_requests_in_flight a request gets 503, whoever sends it, also across a reload; /health goes on."""
    gateway = Gateway(most=2)
    clients = [gateway.connect() for _ in range(2)]
    for channel, _ in clients:
        channel.dataReceived(request("/one/x"))
    for _ in range(2):
        channel, transport = gateway.connect()
        channel.dataReceived(request("/two/x", tok=None))
        assert status(transport) == 503
        assert b"Retry-After: 1\r\n" in transport.value()
        assert b"Service unavailable" in transport.value()
        assert b"Connection: close" not in transport.value()
        assert gateway.audit.rows[-1][11] == "in_flight"
        transport.clear()
        channel.dataReceived(request("/health", tok=None))
        assert status(transport) == 200
        gateway.reload(most=2)
    clients[0][1].abortConnection()  # one client leaves: there is room for one
    assert gateway.status("/elsewhere", answer=b"") == 404
    assert gateway.lasting.flying.count == 1
    assert len(gateway.audit.rows) == 6
    gateway.reload(most=0)
    assert gateway.status("/elsewhere", "bob") == 404
    clients[1][1].abortConnection()
    assert gateway.lasting.flying.count == 0


def test_what_takes_a_restart_is_said() -> None:
    """An option that a reload does not change is named, whatever its value; the others are not."""
    before = settings()
    after = replace(
        before,
        gateway=replace(before.gateway, workers=4, edge="elsewhere"),
        ratelimit=replace(before.ratelimit, limit=7),
    )
    assert until_restart(before, before) == []
    assert until_restart(before, after) == ["[gateway] workers has changed in the file, which takes a restart"]


def test_many_reloads_leak_nothing(gateway: Gateway, no_collections: None) -> None:
    """Each old configuration goes when it is replaced, without the garbage collector's help."""
    old: list[weakref.ref[Any]] = []
    channel, _ = gateway.connect()
    for number in range(20):
        channel.dataReceived(request("/elsewhere"))
        assert gateway.status("/one/x", f"u{number}") == 200
        old += [weakref.ref(gateway.serving), weakref.ref(gateway.serving.rules), weakref.ref(gateway.serving.targets)]
        gateway.reload(
            routes=ONE.replace("9001", str(9100 + number)) + TWO,
            limit=100 + number, jwt=f"leeway = {number}s", failures=1 + number,
        )  # fmt: skip
    assert [ref() for ref in old] == [None] * len(old)
    assert len(gateway.lasting.sweep._watched) <= 3


def test_an_old_configuration_goes_with_its_last_request(gateway: Gateway, no_collections: None) -> None:
    """The old tree lives as long as a request that began under it, and no longer."""
    channel, transport = gateway.connect()
    channel.dataReceived(request("/one/x"))
    gateway.upstream(b"")
    old = weakref.ref(gateway.serving.rules)
    tree = weakref.ref(channel._request.exchange.terms.target.pool)
    gateway.reload(routes=TWO)
    assert old() is None
    assert tree() is not None
    gateway.upstream()
    assert status(transport) == 200
    gateway.upstreams.clear()
    assert tree() is None
