"""How what is revoked anywhere comes into force here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from gateway.revocation.entries import Entry, Revocations
from gateway.revocation.journal import Journal
from gateway.revocation.watch import LOOK, Watch

NOW = 1_700_000_000.0


class State:
    """What machines tell each other, at the next look of any of them."""

    def __init__(self) -> None:
        self.before: list[Callable[[], object]] = []
        self.others: list[State] = []
        self.hears: Any = None
        self.puts: list[str] = []

    def listen(self, kind: str, hears: Any) -> None:
        assert kind == "revoked"
        self.hears = hears

    def put(self, kind: str, key: str, payload: str, seconds: float) -> bool:
        assert seconds > 0
        self.puts.append(key)
        for other in self.others:
            other.hears(key, payload, seconds)
        return True


class Machine:
    """One with a process."""

    def __init__(self, folder: Path, clock: Clock, state: State | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "revocations"
        self.revocations = Revocations()
        self.watch = Watch(self.revocations, Journal(str(self.path)), lambda: NOW + clock.seconds(), clock, state)
        self.watch.start()

    def revoke(self, entry: Entry) -> None:
        """As gateway revoke does."""
        Journal(str(self.path)).add([entry], NOW)

    def refuses(self, jti: str) -> bool:
        """Whether a token would be refused."""
        return self.revocations.revoked("ann", {"jti": jti}, "") is not None


def test_from_the_file(tmp_path: Path) -> None:
    """What stands in the file when the gateway starts holds at once; what is added, at the next look."""
    clock = Clock()
    Machine(tmp_path, clock).revoke(Entry("jti", "a", NOW))
    machine = Machine(tmp_path, clock)
    assert machine.refuses("a")
    machine.revoke(Entry("jti", "b", NOW))
    assert not machine.refuses("b")
    clock.advance(LOOK)
    assert machine.refuses("b")
    machine.watch.stop()
    machine.revoke(Entry("jti", "c", NOW))
    clock.advance(LOOK)
    assert not machine.refuses("c")


def test_through_the_store(tmp_path: Path) -> None:
    """Another machine hears of it at once and keeps it on its own disk; nobody tells again what he has heard."""
    clock, one, other = Clock(), State(), State()
    one.others, other.others = [other], [one]
    here, there = Machine(tmp_path / "1", clock, one), Machine(tmp_path / "2", clock, other)
    here.revoke(Entry("jti", "a", NOW))
    one.before[0]()  # the store is asked more often than the file alone
    assert there.refuses("a")
    clock.advance(LOOK)
    clock.advance(LOOK)
    assert [entry.value for entry in Journal(str(there.path)).load()] == ["a"]
    assert (one.puts, other.puts) == ([f"jti:a:{NOW}:0"], [])
    here.revoke(Entry("jti", "a", NOW + 1, undone=True))
    clock.advance(LOOK)
    assert not there.refuses("a")


def test_a_machine_that_comes_back(tmp_path: Path) -> None:
    """An old file does not bring back what was undone meanwhile: the later word is kept beside the older one."""
    state = State()
    machine = Machine(tmp_path, Clock(), state)
    machine.revoke(Entry("jti", "a", NOW))
    machine.revoke(Entry("jti", "a", NOW + 1, undone=True))
    again = State()
    Machine(tmp_path, Clock(), again)
    machine.watch.look()
    assert again.puts == state.puts == [f"jti:a:{NOW + 1}:1"]
    late = Machine(tmp_path / "late", Clock(), late_state := State())
    late.revoke(Entry("jti", "a", NOW))
    late.watch.look()
    assert late_state.puts == [f"jti:a:{NOW}:0"]
    late_state.hears("any", Entry("jti", "a", NOW + 1, undone=True).to_json(), 1.0)
    assert not late.refuses("a")


def test_who_only_looks_writes_nothing(tmp_path: Path) -> None:
    """What gateway explain hears is neither kept nor told."""
    clock, state = Clock(), State()
    path = tmp_path / "revocations"
    Journal(str(path)).add([Entry("jti", "a", NOW)], NOW)
    held = Revocations()
    watch = Watch(held, Journal(str(path)), lambda: NOW, clock, state, keeps=False)
    state.hears("any", Entry("jti", "b", NOW).to_json(), 1.0)
    before = path.read_bytes()
    watch.look()
    assert (len(held), state.puts, path.read_bytes()) == (2, [], before)


def test_rubbish_from_the_store_is_nothing(tmp_path: Path) -> None:
    """Whatever another process says, this one goes on."""
    state = State()
    machine = Machine(tmp_path, Clock(), state)
    for payload in ("", "{}", "\x00", '{"kind": "jti"}'):
        state.hears("jti:x", payload, 1.0)
    assert len(machine.revocations) == 0


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said before holds on, and the gateway goes on; the next good file is read."""
    clock = Clock()
    machine = Machine(tmp_path, clock)
    machine.revoke(Entry("jti", "a", NOW))
    clock.advance(LOOK)
    load = Journal.news

    def fails(self: Journal) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Journal, "news", fails)
    machine.path.write_text(Entry("jti", "b", NOW).to_json())
    clock.advance(LOOK)
    assert machine.refuses("a")
    assert not machine.refuses("b")
    monkeypatch.setattr(Journal, "news", load)
    clock.advance(LOOK)
    assert machine.refuses("b")


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have told holds all the same, and is written as soon as that is possible."""
    clock, state = Clock(), State()
    machine = Machine(tmp_path, clock, state)
    add = Journal.add

    def full(self: Journal, *_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "add", full)
    state.hears("any", Entry("jti", "a", NOW).to_json(), 1.0)
    clock.advance(LOOK)
    clock.advance(LOOK)
    assert machine.refuses("a")
    assert not machine.path.exists()
    monkeypatch.setattr(Journal, "add", add)
    clock.advance(LOOK)
    assert [entry.value for entry in Journal(str(machine.path)).load()] == ["a"]


def test_somebody_who_fails_to_obey_stops_nothing(tmp_path: Path) -> None:
    """Whatever goes wrong where an entry comes into force, the next one is still heard."""
    clock = Clock()
    machine = Machine(tmp_path, clock)

    def fails(_entries: Any) -> Any:
        raise RuntimeError("broken")

    machine.revocations.heard.append(fails)
    for value in ("a", "b"):
        machine.revoke(Entry("jti", value, NOW))
        clock.advance(LOOK)
        assert machine.refuses(value)
