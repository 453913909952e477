"""What processes tell each other through a real Valkey."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor  # noqa: TID251 - pytest-twisted runs this one
from twisted.internet.task import Clock

from gateway.admission.windows import SlidingWindow
from gateway.stores import shared as module
from gateway.stores.redis import RedisBuckets
from gateway.stores.shared import SharedState
from gateway.stores.sharing import share_circuits
from gateway.stores.url import parse_url
from gateway.testing import counted
from gateway.upstream.circuits import Circuits
from gateway.verdicts import Refused
from tests.stores.test_redis import pause
from tests.stores.valkey import Valkey

_names = itertools.count()


class Process:
    """One process with a connection of its own, and what it has heard."""

    def __init__(self, valkey: Valkey, name: str) -> None:
        self.store = RedisBuckets(reactor, parse_url(valkey.url), name)
        self.state = SharedState(self.store.connection, reactor, name)
        self.heard: dict[str, tuple[str, float]] = {}
        self.state.listen("ban", self.hear)
        self.store.start()
        self.state.start()

    def hear(self, key: str, payload: str, seconds: float) -> None:
        self.heard[key] = (payload, seconds)

    async def until(self, key: str, payload: str) -> float:
        """Until it has heard of an entry; its seconds left."""
        while self.heard.get(key, ("", 0))[0] != payload:
            await pause()
        return self.heard[key][1]

    def stop(self) -> None:
        self.state.stop()
        self.store.stop()


class Fake:
    """A connection that keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ask(self, _data: bytes, waiter: Any) -> None:
        self.asked.append(waiter)

    def abort(self) -> None:
        raise AssertionError


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Process]]:
    """Makes processes, which look often, and stops them."""
    monkeypatch.setattr(module, "LOOK", 0.01)
    made: list[Process] = []

    def make(valkey: Valkey, name: str) -> Process:
        made.append(Process(valkey, name))
        return made[-1]

    yield make
    for process in made:
        process.stop()


@pytest_twisted.ensureDeferred
async def test_all_hear_what_one_says(shared_valkey: Valkey, processes: Callable[..., Process]) -> None:
    """What one process says all others of the gateway hear, those that come later too; other gateways don't."""
    name = f"shared{next(_names)}"
    one, two, other = processes(shared_valkey, name), processes(shared_valkey, name), processes(shared_valkey, "else")
    assert one.state.put("ban", "é\n|x", "why", 60)
    assert 50 < await two.until("é\n|x", "why") <= 60
    late = processes(shared_valkey, name)
    assert 50 < await late.until("é\n|x", "why") <= 60
    two.state.put("ban", "é\n|x", "changed", 60)
    await late.until("é\n|x", "changed")
    await one.until("é\n|x", "changed")
    assert (one.state.entries("ban").keys(), other.heard) == ({"é\n|x"}, {})


def rights() -> list[str]:
    """What docs/management.md says a user of the gateway's own needs."""
    text = (Path(__file__).parents[2] / "docs" / "management.md").read_text()
    found = re.search(r"ACL SETUSER gateway on >PASSWORD ~\{gateway\}\* ([^`]+)`", text)
    assert found is not None
    return found[1].split()


@pytest_twisted.ensureDeferred
async def test_the_documented_rights_are_enough(valkey: Valkey, processes: Callable[..., Process]) -> None:
    """A user with the rights that the manual names, and no others, can count and tell."""
    valkey.ask("ACL", "SETUSER", "gw", "reset", "on", ">pw", "~{rights}*", *rights())
    with monkeypatched_url(valkey, f"unix://gw:pw@{valkey.path}?db=1"):
        one, two = processes(valkey, "rights"), processes(valkey, "rights")
        one.state.put("ban", "a", "1", 60)
        await two.until("a", "1")
        counting = one.store.take(SlidingWindow(5, 60_000_000), "sub:x", 0)
        assert (await counted(counting)).remaining == 4


@contextlib.contextmanager
def monkeypatched_url(valkey: Valkey, url: str) -> Iterator[None]:
    """The server under another URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(valkey), "url", property(lambda _: url))
        yield


def test_what_is_said_anew_while_it_is_told_is_told_again() -> None:
    """An entry that changes while the old one is on its way is not lost."""
    line = Fake()
    clock = Clock()
    state = SharedState(lambda: line, clock, "x")
    state.put("ban", "a", "1", 60)
    state.start()
    clock.advance(0)
    state.put("ban", "a", "2", 60)
    line.asked[0].callback([b"e", b"1", b"1", 0])
    clock.advance(module.LOOK)
    assert [payload for payload, _ in line.asked[1].told.values()] == ["2"]
    line.asked[1].callback([b"e", b"2", b"1", 0])
    clock.advance(module.LOOK)
    assert not line.asked[2].told
    state.stop()


def test_reminders_never_replace(shared_valkey: Valkey) -> None:
    """What a server is only reminded of does not take the place of what it has."""
    keys = [f"{{remind{next(_names)}}}:{each}" for each in "poem"]
    text = module._SOURCE.read_bytes()

    def put(payload: str, reminder: int) -> list[Any]:
        found = shared_valkey.ask("EVAL", text, 4, *keys, "", 0, 9, 9, "ban\0a", payload, 60_000_000, reminder)
        assert isinstance(found, list)
        return found[4:6]

    assert put("old", 1) == [b"ban\0a", b"old"]
    assert put("new", 0) == [b"ban\0a", b"new"]
    assert put("old", 1) == [b"ban\0a", b"new"]


@pytest_twisted.ensureDeferred
async def test_a_server_restarted_empty_hears_it_again(valkey: Valkey, processes: Callable[..., Process]) -> None:
    """A server that has lost everything is told again by those who know; nothing said meanwhile is lost."""
    one, two = processes(valkey, "again"), processes(valkey, "again")
    one.state.put("ban", "a", "1", 60)
    await two.until("a", "1")
    valkey.kill()
    while one.store.connection() is not None or two.store.connection() is not None:
        await pause()
    two.state.put("ban", "b", "2", 60)
    valkey.start()
    await one.until("b", "2")
    one.stop()
    late = processes(valkey, "again")
    await late.until("a", "1")
    await late.until("b", "2")


@pytest_twisted.ensureDeferred
async def test_a_hanging_server_is_left(
    valkey: Valkey, processes: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that gets no answer ends its connection, so an idle gateway notices too; then all goes on."""
    monkeypatch.setattr(module, "GIVE_UP", 0.05)
    one, two = processes(valkey, "hang"), processes(valkey, "hang")
    one.state.put("ban", "a", "1", 60)
    await two.until("a", "1")
    before = one.store.connection()
    valkey.signal(signal.SIGSTOP)
    while one.store.connection() is before:
        await pause()
    one.state.put("ban", "b", "2", 60)
    valkey.signal(signal.SIGCONT)
    await two.until("b", "2")


@pytest_twisted.ensureDeferred
async def test_many_entries_come_in_pages(
    shared_valkey: Valkey, processes: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More entries than fit in one call come in several, each once."""
    monkeypatch.setattr(module, "PAGE", 3)
    name = f"shared{next(_names)}"
    one, two = processes(shared_valkey, name), processes(shared_valkey, name)
    for number in range(10):
        one.state.put("ban", str(number), "x", 60)
    while len(two.heard) < 10:
        await pause()


@pytest_twisted.ensureDeferred
async def test_entries_end(shared_valkey: Valkey, processes: Callable[..., Process]) -> None:
    """An entry ends by itself, here and on the server."""
    name = f"shared{next(_names)}"
    one, two = processes(shared_valkey, name), processes(shared_valkey, name)
    one.state.put("ban", "a", "1", 0.3)
    await two.until("a", "1")
    while one.state.entries("ban") or two.state.entries("ban"):
        await pause()
    assert all(shared_valkey.ask("PTTL", key) < 2000 for key in shared_valkey.ask("KEYS", f"{{{name}}}*"))
    two.state.put("ban", "b", "2", 60)
    await one.until("b", "2")
    assert shared_valkey.ask("HKEYS", f"{{{name}}}:shared:payloads") == [b"ban\0b"]


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing new is taken, and that is counted."""
    monkeypatch.setattr(module, "MOST", 2)
    state = SharedState(lambda: None, clock := Clock(), "x")
    assert [state.put("ban", key, "", 5) for key in "aabc"] == [True, True, True, False]
    assert state.refused == 1
    clock.advance(6)
    assert state.put("ban", "c", "", 5)


@pytest.mark.parametrize("reply", [None, b"", [], [b"", b"1", b"x", 0], [b"e", b"1", b"1", 0, b"nokind", b"", b"9"], [b"e", b"1", b"1", 0, b"a"]])
def test_nonsense_is_dropped(reply: Any) -> None:
    """A reply of another form changes nothing and stops nothing."""
    clock, line = Clock(), Fake()
    state = SharedState(lambda: line, clock, "x")
    state.put("ban", "a", "1", 60)
    state.start()
    clock.advance(0)
    line.asked[0].callback(reply)
    clock.advance(module.LOOK)
    assert len(line.asked) == 2
    assert list(line.asked[1].told) == [("ban", "a")]
    state.stop()
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_a_circuit_opens_for_all(shared_valkey: Valkey, processes: Callable[..., Process]) -> None:
    """A circuit that opens in one process opens in the others, until a trial of their own."""
    name, clock = f"shared{next(_names)}", Clock()
    all_circuits = []
    for number in range(2):
        all_circuits.append(Circuits())
        state = processes(shared_valkey, name).state
        share_circuits(partial(all_circuits.__getitem__, number), state, clock.seconds)
    address = ("10.0.0.1", 80)
    mine, theirs = (circuits.of(address, 2, 30.0) for circuits in all_circuits)
    for _ in range(2):
        permit = mine.admit(0)
        assert isinstance(permit, int)
        mine.failed(permit, 0)
    while theirs.state(clock.seconds()) == "closed":
        await pause()
    assert isinstance(theirs.admit(0), Refused)
    clock.advance(31)
    trial = theirs.admit(clock.seconds())
    assert isinstance(trial, int)
    theirs.succeeded(trial)
    assert theirs.state(clock.seconds()) == "closed"
    assert mine.state(clock.seconds()) == "half-open"
