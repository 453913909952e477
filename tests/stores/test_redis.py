"""Counters on a real Valkey."""

from __future__ import annotations

import itertools
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor  # noqa: TID251 - pytest-twisted runs this one
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol

from gateway.admission.windows import SlidingWindow
from gateway.interfaces import IBuckets, StoreUnreachable
from gateway.stores import redis as module
from gateway.stores.failover import Failover
from gateway.stores.memory import MemoryBuckets
from gateway.stores.redis import RedisBuckets
from gateway.stores.script import sha
from gateway.stores.url import StoreAddress, parse_url
from gateway.testing import counted
from tests.contracts.buckets import NOW, SECOND, BucketsContract
from tests.stores.valkey import Valkey, on_a_clock_of_the_tests

_names = itertools.count()


def told(store: RedisBuckets) -> RedisBuckets:
    """The store goes by a clock that the test sets."""
    store._source = on_a_clock_of_the_tests()
    store._sha = sha(store._source)
    return store


class TestContract(BucketsContract):
    """The contract of all stores."""

    @pytest.fixture(autouse=True)
    def _server(self, shared_valkey: Valkey) -> Iterator[None]:
        self.valkey = shared_valkey
        self.made: list[RedisBuckets] = []
        yield
        for store in self.made:
            store.stop()

    def buckets(self, keys: int = 100) -> IBuckets:
        name = f"contract{next(_names)}"
        store = told(RedisBuckets(reactor, parse_url(self.valkey.url), name, timeout=5))
        self.made.append(store)
        store.start()
        return store

    def at(self, now: int) -> None:
        self.valkey.ask("SET", "{clock}", now)


class TestFailoverContract(TestContract):
    """The wrapper that decides without the store is a store as well."""

    def buckets(self, keys: int = 100) -> IBuckets:
        return Failover(super().buckets(), MemoryBuckets(keys), reactor)  # type: ignore[arg-type]


@pytest.fixture
def stores() -> Iterator[Callable[..., RedisBuckets]]:
    """Makes stores, and stops them."""
    made: list[RedisBuckets] = []

    def make(address: StoreAddress | str, **options: Any) -> RedisBuckets:
        if isinstance(address, str):
            address = parse_url(address)
        store = RedisBuckets(reactor, address, options.pop("name", f"test{next(_names)}"), **options)
        made.append(store)
        store.start()
        return store

    yield make
    for store in made:
        store.stop()


def rule(limit: int = 5) -> SlidingWindow:
    return SlidingWindow(limit, 60 * SECOND)


def calls(valkey: Valkey) -> int:
    """How many calls of scripts the server has had."""
    found: bytes = valkey.ask("INFO", "commandstats")
    return int(found.partition(b"cmdstat_evalsha:calls=")[2].partition(b",")[0])


@pytest_twisted.ensureDeferred
async def test_one_call_a_turn(shared_valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """Requests of many users and routes that come in one turn are one call to the server."""
    store = stores(shared_valkey.url, timeout=5)
    await counted(store.take(rule(), "sub:x", NOW))
    before = calls(shared_valkey)
    common, own = rule(), SlidingWindow(3, SECOND, "/own")
    counts = await gatherResults(
        [counted(store.take(common, f"sub:{n % 10}", NOW)) for n in range(60)] + [counted(store.take(own, "sub:1", NOW, 2))]
    )
    assert calls(shared_valkey) == before + 1
    assert [count.allowed for count in counts[:60]] == [True] * 50 + [False] * 10
    assert counts[60].remaining == 1


@pytest_twisted.ensureDeferred
async def test_a_great_turn_is_cut(shared_valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """More requests than the server should be kept busy with at once go in several calls."""
    store, one = stores(shared_valkey.url, timeout=5), rule(1000)
    await counted(store.take(rule(), "sub:x", NOW))
    before = calls(shared_valkey)
    counts = await gatherResults([counted(store.take(one, "sub:x", NOW)) for _ in range(2 * module.BATCH + 1)])
    assert calls(shared_valkey) == before + 3
    assert sum(count.allowed for count in counts) == 1000


@pytest_twisted.ensureDeferred
async def test_two_gateways_share_counters(shared_valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """Two gateways of one name share a user's limit; one of another name does not."""
    one = stores(shared_valkey.url, name="shared", timeout=5)
    two = stores(shared_valkey.url, name="shared", timeout=5, connections=3)
    other = stores(shared_valkey.url, name="other", timeout=5)
    counts = await gatherResults([counted(store.take(rule(7), "sub:x", NOW)) for _ in range(6) for store in (one, two)])
    assert sum(count.allowed for count in counts) == 7
    assert (await counted(other.take(rule(7), "sub:x", NOW))).remaining == 6
    keys = shared_valkey.ask("KEYS", "{shared}*")
    assert keys == [b"{shared}:1:default|sliding-window:7/60000000:sub:x"]


@pytest_twisted.ensureDeferred
async def test_a_forgotten_script_is_loaded_again(shared_valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """A server that has lost the script gets it again; no request fails for it, none counts twice."""
    store = stores(shared_valkey.url, timeout=5)
    assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 4
    shared_valkey.ask("SCRIPT", "FLUSH")
    counts = await gatherResults([counted(store.take(rule(), "sub:x", NOW)) for _ in range(3)])
    assert [count.remaining for count in counts] == [3, 2, 1]


@pytest_twisted.ensureDeferred
async def test_a_stopped_server(valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """A server that does not answer is told of at the time-out, and used again when it does."""
    store = stores(valkey.url)
    await counted(store.take(rule(), "sub:x", NOW))
    valkey.signal(signal.SIGSTOP)
    with pytest.raises(StoreUnreachable, match="within 50 ms"):
        await counted(store.take(rule(), "sub:x", NOW))
    valkey.signal(signal.SIGCONT)
    await recovered(store)
    # The call that timed out was counted all the same: more is counted than passed, never less.
    assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 2


@pytest_twisted.ensureDeferred
async def test_a_stopped_server_is_left_at_last(
    valkey: Valkey, stores: Callable[..., RedisBuckets], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that owes an answer too long is dropped: the next one may find a living server."""
    store = stores(valkey.url, timeout=0.02)
    await counted(store.take(rule(), "sub:x", NOW))
    before = store.links[0].connection
    monkeypatch.setattr(module, "GIVE_UP", 0.05)
    valkey.signal(signal.SIGSTOP)
    while store.links[0].connection is before:
        with pytest.raises(StoreUnreachable):
            await counted(store.probe())
    valkey.signal(signal.SIGCONT)
    await recovered(store)


async def recovered(store: RedisBuckets) -> None:
    """Until the store counts again; the test's time-out bounds it."""
    while True:
        try:
            await counted(store.probe())
        except StoreUnreachable:
            await pause()
        else:
            return


def pause(seconds: float = 0.005) -> Deferred[None]:
    """Let the reactor turn."""
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


@pytest_twisted.ensureDeferred
async def test_a_killed_server(valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """Whoever waits for a server that dies is told at once; a new, empty one is used as soon as it is there."""
    store = stores(valkey.url, timeout=30)
    await counted(store.take(rule(), "sub:x", NOW))
    valkey.signal(signal.SIGSTOP)
    waiting = [counted(store.take(rule(), "sub:x", NOW)) for _ in range(3)]
    await pause()
    valkey.kill()
    for each in waiting:
        with pytest.raises(StoreUnreachable):
            await each
    with pytest.raises(StoreUnreachable):
        await counted(store.take(rule(), "sub:x", NOW))
    valkey.start()
    await recovered(store)
    assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 4


@pytest_twisted.ensureDeferred
async def test_what_waits_is_bounded(
    valkey: Valkey, stores: Callable[..., RedisBuckets], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No queue grows without bound: beyond the bound a request is told at once."""
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    store = stores(valkey.url, timeout=30)
    valkey.signal(signal.SIGSTOP)
    waiting = [counted(store.take(rule(), "sub:x", NOW)) for _ in range(10)]
    with pytest.raises(StoreUnreachable, match="too many"):
        await counted(store.take(rule(), "sub:x", NOW))
    valkey.signal(signal.SIGCONT)
    await gatherResults(waiting)
    assert not (await counted(store.take(rule(), "sub:x", NOW))).allowed


@pytest.mark.parametrize("setup", [("maxmemory", "1"), ("min-replicas-to-write", "1")])
@pytest_twisted.ensureDeferred
async def test_a_server_that_can_not_write(
    valkey: Valkey, stores: Callable[..., RedisBuckets], setup: tuple[str, str]
) -> None:
    """A server that answers but refuses writes (full, read-only) is a failed one until it writes again."""
    store = stores(valkey.url, timeout=5)
    await counted(store.take(rule(), "sub:x", NOW))
    valkey.ask("CONFIG", "SET", *setup)
    with pytest.raises(StoreUnreachable, match=r"it says (OOM|NOREPLICAS)"):
        await counted(store.take(rule(), "sub:x", NOW))
    with pytest.raises(StoreUnreachable):
        await counted(store.probe())
    valkey.ask("CONFIG", "SET", setup[0], "0")
    assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 3


@pytest_twisted.ensureDeferred
async def test_a_replica_is_left(valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """A server that has become a replica is left: its name may lead elsewhere by now."""
    store = stores(valkey.url, timeout=5)
    await counted(store.take(rule(), "sub:x", NOW))
    before = store.links[0].connection
    valkey.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnreachable, match=r"READONLY|MASTERDOWN"):
        await counted(store.take(rule(), "sub:x", NOW))
    while store.links[0].connection is before:
        await pause()
    valkey.ask("REPLICAOF", "NO", "ONE")
    await recovered(store)


@pytest_twisted.ensureDeferred
async def test_user_password_and_database(valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """An ACL user with the least rights, in another database; a wrong password is told without it."""
    valkey.ask("ACL", "SETUSER", "gw", "on", ">pa:ss@/", "~{acl}*", "+evalsha", "+script|load", "+select",
               "+get", "+set", "+time")  # fmt: skip
    valkey.ask("ACL", "SETUSER", "default", "-select", "-evalsha")
    path = valkey.path
    store = stores(f"unix://gw:pa%3Ass%40%2F@{path}?db=5", name="acl", timeout=5)
    assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 4
    assert b"db5:keys=1," in valkey.ask("INFO", "keyspace")
    wrong = stores(f"unix://gw:hunter2@{path}?db=5", name="acl", timeout=5)
    with pytest.raises(StoreUnreachable, match="refuses the user and password") as raised:
        await counted(wrong.take(rule(), "sub:x", NOW))
    assert "hunter2" not in str(raised.value)


class Fake(Protocol):
    """A server that answers every write with the same bytes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.says)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "says", [b"-LOADING the data set\r\n", b"-ERR \x1b[31mred\r\n", b"+OK\r\n", b"*1\r\n:1\r\n", b":7\r\n", b"$-1\r\n", b"HTTP/1.1 400\r\n"]
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_nonsense_is_no_count(stores: Callable[..., RedisBuckets], says: bytes) -> None:
    """Errors, other replies and other protocols are no answer; nothing of them reaches the log raw."""
    factory = Factory.forProtocol(Fake)
    factory.says = says  # type: ignore[attr-defined]
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    store = stores(f"redis://127.0.0.1:{port.getHost().port}", timeout=5)
    try:
        with pytest.raises(StoreUnreachable) as raised:
            await counted(store.take(rule(), "sub:x", NOW))
        assert "\x1b" not in str(raised.value)
    finally:
        store.stop()
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_nobody_there(stores: Callable[..., RedisBuckets]) -> None:
    """Without a server at start the first requests are told so, in time, and the reason is known."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = stores(f"redis://127.0.0.1:{closed.getsockname()[1]}", timeout=5)
        with pytest.raises(StoreUnreachable, match="refused"):
            await counted(store.take(rule(), "sub:x", NOW))


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves(shared_valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """A request that is cut while it waits disturbs no other."""
    store = stores(shared_valkey.url, timeout=5)
    gone, stays = store.take(rule(), "sub:x", NOW), store.take(rule(), "sub:y", NOW)
    heard: list[object] = []
    gone.then(heard.append, None)
    gone.forget()
    assert (await counted(stays)).remaining == 4
    assert heard == []


@pytest_twisted.ensureDeferred
async def test_stopping_leaves_nobody_waiting(valkey: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """At the end whoever still waits is told."""
    store = stores(valkey.url, timeout=30)
    await counted(store.take(rule(), "sub:x", NOW))
    valkey.signal(signal.SIGSTOP)
    sent = counted(store.take(rule(), "sub:x", NOW))
    await pause()
    waiting = counted(store.take(rule(), "sub:y", NOW))
    store.stop()
    for each in (sent, waiting):
        with pytest.raises(StoreUnreachable):
            await each
