# -*- test-case-name: tests.system.test_workers -*-
"""
The supervisor: holds the listening sockets, runs the embedded store, and serves nothing.
Lets workers serve, see L{gateway.workers.crew}, and ends with the last of them.

Workers share the sockets and their queues, so that a connection waits for any of them and
none dies with one. All have the configuration as it was checked, see
L{gateway.workers.snapshot}; a worker that starts later too.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from gateway.audit.schema import open_database
from gateway.descriptors import raise_limit
from gateway.notify import Manager
from gateway.service import AUDIT_GRACE
from gateway.settings import Settings
from gateway.sockets import CannotListen, Sockets
from gateway.stores.embedded import EmbeddedStore
from gateway.workers.crew import LOOK, Crew, Order
from gateway.workers.places import cpus_of
from gateway.workers.reload import Reload, Source
from gateway.workers.snapshot import Snapshot

#: Seconds for which workers wait for their embedded store.
STORE = 5.0


class Supervisor(Service):
    """
    The gateway as a service of many processes.

    @param snapshot: the configuration's text, for the workers.
    @param source: reads the configuration anew, for C{SIGHUP}.
    @param directory: where the program was started: paths in the file are relative to it.
    @param reactor_name: what C{--reactor} said.
    @ivar when_ready: called when the workers serve for the first time.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        snapshot: Snapshot,
        reactor: Any,
        source: Source,
        sockets: Sockets,
        directory: str = ".",
        reactor_name: str = "",
    ) -> None:
        self.settings = settings
        self.snapshot = snapshot
        self.reactor = reactor
        self.sockets = sockets
        self.open: list[tuple[str, Any]] = []
        self.when_ready: list[Callable[[], object]] = []
        self._crew = Crew(reactor, self._order, self._ready, directory, reactor_name)
        self.manager = Manager(reactor, self._crew.requests, self._crew.connections)
        store, keys = settings.ratelimit.store, settings.ratelimit.keys
        self._store: EmbeddedStore | None = None
        if not isinstance(store, str) and store.embedded:
            self._store = EmbeddedStore(reactor, store.path, keys)
        self._stopping = 0
        self._reload = Reload(self, source)

    # -- start

    def startService(self) -> None:
        """Open the sockets, then start the workers; exits with 1 and a sentence on failure."""
        super().startService()
        raise_limit()
        try:
            # Its tables are made once, before workers ask for them all at once.
            open_database(self.settings.audit.database).close()
        except Exception as error:
            raise SystemExit(f"gateway: the audit database can't be used: {error}") from None
        try:
            for description in self.settings.gateway.listen:
                self.open.append((description, self.sockets.open(description)))
        except CannotListen as error:
            raise SystemExit(f"gateway: {error}") from None
        served = succeed(None)
        if self._store is not None:
            try:
                served = self._store.start()
            except OSError as error:
                raise SystemExit(f"gateway: the embedded store can't be run: {error}") from None
        for description, _ in self.open:
            self._log.info("listening on {description}", description=description)
        # Workers that find no store decide without it, which is less exact.
        served.addTimeout(STORE, self.reactor).addBoth(self._served)
        self._crew.watch()
        self.reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, self._hung_up)

    def _served(self, _: object) -> None:
        if not self._stopping:
            self.resize()

    def _ready(self) -> None:
        self.manager.ready()
        for call in self.when_ready:
            call()

    # -- the workers

    def resize(self) -> None:
        """As many workers as the settings say."""
        settings = self.settings.gateway
        self._crew.resize(settings.workers, settings.worker_timeout)

    def tell_all(self, added: list[tuple[str, Any]]) -> None:
        """The settings have changed; these sockets are new."""
        self._crew.tell(lambda number: self._order(number, added))

    def _order(self, number: int, sockets: list[tuple[str, Any]] | None = None) -> Order:
        """What a worker is to serve, and on which sockets; by default on all that are open."""
        sockets = self.open if sockets is None else sockets
        message = {
            "kind": "serve",
            "workers": self.settings.gateway.workers,
            "cpus": cpus_of(self.settings.gateway, number),
            "listen": [description for description, _ in sockets],
        }
        return message, [self.snapshot.descriptor, *(sock.fileno() for _, sock in sockets)]

    # -- signals

    def _signalled(self, number: int, _frame: object) -> None:
        self.reactor.callFromThread(self.end, signal.Signals(number).name)

    def _hung_up(self, _number: int, _frame: object) -> None:
        self.reactor.callFromThread(self._reload.signalled)

    def end(self, why: str) -> None:
        """Stop; asked again, cut what is in flight."""
        self._stopping += 1
        if self._stopping == 1:
            self._log.info("{why}: stopping", why=why)
            self.reactor.stop()
        else:
            self._log.warn("{why} again: cutting", why=why)
            self._crew.cut()

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """What may wait for a disk is called in the reactor's thread pool."""
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), call, *arguments)

    # -- stop

    def descriptors(self) -> list[tuple[str, int]]:
        """The listening sockets, for a successor."""
        return [(description, sock.fileno()) for description, sock in self.open]

    def hand_over(self) -> None:
        """A successor has the sockets and serves: finish what is in flight, and end."""
        self.sockets.handed_over()
        self._crew.hand_over()
        self.end("handed over")

    def stopService(self) -> Deferred[None]:
        """Let the workers finish."""
        super().stopService()
        self._stopping = max(1, self._stopping)
        self.manager.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # The workers still have them, and take in who waits in their queues.
        for description, sock in self.open:
            self.sockets.close(description, sock)
        await self._crew.leave(self.settings.gateway.shutdown_grace + AUDIT_GRACE + LOOK)
        if self._store is not None:
            await self._store.stop()
        self.snapshot.close()
        self._crew.close()
        self._log.info("stopped")
