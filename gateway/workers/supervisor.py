# -*- test-case-name: tests.system.test_workers -*-
"""
The supervisor: holds the listening sockets and serves nothing. Lets no worker be missing
for long, and none stay that has stopped beating.

Workers share the sockets and their queues, so that a connection waits for any of them and
none dies with one. All have the configuration as it was checked, see
L{gateway.workers.snapshot}; a worker that starts later too.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel

from gateway.audit.schema import open_database
from gateway.descriptors import raise_limit
from gateway.notify import Manager
from gateway.service import AUDIT_GRACE
from gateway.settings import Settings
from gateway.sockets import CannotListen, Sockets
from gateway.stores.embedded import EmbeddedStore
from gateway.workers.pipe import Message
from gateway.workers.places import cpus_of
from gateway.workers.reload import Reload, Source
from gateway.workers.share import Board
from gateway.workers.snapshot import Snapshot
from gateway.workers.worker import Worker

#: Seconds until a dead worker's successor starts: at first, and at most, in a crash loop.
FIRST_WAIT, LAST_WAIT = 0.1, 30.0

#: A worker that lived so many seconds has not failed at its start.
LIVED = 10.0

#: Seconds a worker may take until it says that it serves.
START = 60.0

#: Seconds for which workers wait for their embedded store.
STORE = 5.0

#: Seconds between two looks at the workers.
LOOK = 1.0


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
        self.manager = Manager(reactor, self._requests, self._connections)
        self._directory = directory
        self._reactor_name = reactor_name
        self._board = Board()
        store, keys = settings.ratelimit.store, settings.ratelimit.keys
        self._store: EmbeddedStore | None = None
        if not isinstance(store, str) and store.embedded:
            self._store = EmbeddedStore(reactor, store.path, keys)
        self._workers: dict[int, Worker] = {}
        self._leaving: set[Worker] = set()
        self._failures: dict[int, int] = {}
        self._restarts: dict[int, Any] = {}
        self._tried: set[int] = set()
        self._retired = 0
        self._ready = False
        self._stopping = 0
        self._gone: Deferred[None] | None = None
        self._reload = Reload(self, source)
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor
        self._looked = 0.0

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
        self._looked = self.reactor.seconds()
        self._watch.start(LOOK, now=False)
        self.reactor.callWhenRunning(self._running)

    def _running(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, self._hung_up)

    def _served(self, _: object) -> None:
        if not self._stopping:
            self.resize()

    # -- the workers

    def resize(self) -> None:
        """As many workers as the settings say."""
        wanted = self.settings.gateway.workers
        self._board.resize(wanted)
        for number in range(1, wanted + 1):
            if number not in self._workers and number not in self._restarts:
                self._start(number)
        for number in [each for each in self._restarts if each > wanted]:
            self._restarts.pop(number).cancel()
        for number in [each for each in self._workers if each > wanted]:
            self._dismiss(self._workers[number])

    def tell_all(self, added: list[tuple[str, Any]]) -> None:
        """The settings have changed; these sockets are new."""
        for worker in list(self._workers.values()):
            if not worker.send(*self._serve(worker.number, added)):
                self._replace(worker, "it takes no messages")

    def _serve(self, number: int, sockets: list[tuple[str, Any]]) -> tuple[Message, list[int]]:
        message = {
            "kind": "serve",
            "workers": self.settings.gateway.workers,
            "cpus": cpus_of(self.settings.gateway, number),
            "listen": [description for description, _ in sockets],
        }
        return message, [self.snapshot.descriptor, *(sock.fileno() for _, sock in sockets)]

    def _start(self, number: int) -> None:
        self._restarts.pop(number, None)
        worker = Worker(self.reactor, number, self._told, self._ended)
        message, fds = self._serve(number, self.open)
        try:
            worker.start(
                self._board.descriptor, self._reactor_name, self._directory, message, fds
            )
        except OSError as error:
            self._again(number, f"worker {number} can't be started: {error}")
            return
        self._workers[number] = worker

    def _told(self, worker: Worker, message: Message) -> None:
        kind = message["kind"]
        if kind == "beat":
            worker.requests, worker.connections = message["requests"], message["connections"]
        elif kind == "log":
            self._say(worker, message)
        elif kind == "ready":
            self._log.info("worker {n} serves, process {pid}", n=worker.number, pid=worker.pid)
            worker.state = "ready"
            self._tried.add(worker.number)
            self._maybe_ready()
        elif kind == "failed":
            worker.reason = message["reason"]
        elif kind == "refused":
            self._replace(worker, "it could not reload: " + "; ".join(message["reasons"]))

    def _say(self, worker: Worker, message: Message) -> None:
        """A worker's line in the log, with its time and its level."""
        level = LogLevel.lookupByName(message["level"])
        self._log.emit(
            level, "{text}", text=message["text"], log_time=message["time"],
            log_system=f"worker {worker.number} {message['namespace']}#{message['level']}",
        )  # fmt: skip

    def _maybe_ready(self) -> None:
        """Ready: each worker has been tried, and one serves at least."""
        wanted = set(range(1, self.settings.gateway.workers + 1))
        if not self._ready and wanted <= self._tried:
            self._ready = True
            self.manager.ready()
            for call in self.when_ready:
                call()

    def _ended(self, worker: Worker, how: str) -> None:
        """A worker is gone."""
        self._retired += worker.requests
        self._leaving.discard(worker)
        number = worker.number
        mine = self._workers.get(number) is worker
        if mine:
            del self._workers[number]
            self._board.write(number, 0)
        if self._stopping:
            if not self._workers and not self._leaving and self._gone is not None:
                gone, self._gone = self._gone, None
                gone.callback(None)
        elif mine:
            lived = self.reactor.seconds() - worker.born
            if lived >= LIVED:
                self._failures[number] = 0
            self._again(number, f"worker {number}, process {worker.pid}, has ended: {how}")

    def _again(self, number: int, why: str) -> None:
        """Start a worker anew, later the more often it has failed."""
        failures = self._failures[number] = self._failures.get(number, 0) + 1
        wait = min(LAST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 20))
        wait *= random.uniform(0.5, 1.0)  # noqa: S311 - not all at once
        often = f" ({failures} times soon after its start)" if failures > 1 else ""
        self._log.error(
            "{why}{often}; starting another in {wait:.1f} s", why=why, often=often, wait=wait
        )
        self._restarts[number] = self.reactor.callLater(wait, self._start, number)
        if any(each.state == "ready" for each in self._workers.values()):
            self._tried.add(number)
            self._maybe_ready()

    def _replace(self, worker: Worker, why: str) -> None:
        """Let a worker go that is no use, and start another at once."""
        self._log.error("worker {n} is replaced: {why}", n=worker.number, why=why)
        self._dismiss(worker)
        self._start(worker.number)

    def _dismiss(self, worker: Worker) -> None:
        if self._workers.get(worker.number) is worker:
            del self._workers[worker.number]
            self._board.write(worker.number, 0)
        self._leaving.add(worker)
        worker.leave()

    # -- once a second

    def _look(self) -> None:
        now = self.reactor.seconds()
        late, self._looked = now - self._looked > 3 * LOOK, now
        timeout = self.settings.gateway.worker_timeout
        for worker in [*self._workers.values(), *self._leaving]:
            if late:
                # This process was stopped itself: what the workers said is still unread.
                worker.heard = now
            silent = now - worker.heard
            if worker.state in ("ready", "leaving") and silent > timeout:
                self._log.error(
                    "worker {n}, process {pid}, has been silent for {silent:.0f} s: killing it",
                    n=worker.number, pid=worker.pid, silent=silent,
                )  # fmt: skip
                worker.signal(signal.SIGKILL)
            elif worker.state == "starting" and now - worker.born > START:
                worker.reason = f"it did not serve within {START:.0f} s"
                worker.signal(signal.SIGKILL)

    def _requests(self) -> int:
        there = [*self._workers.values(), *self._leaving]
        return self._retired + sum(worker.requests for worker in there)

    def _connections(self) -> int:
        return sum(each.connections for each in [*self._workers.values(), *self._leaving])

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
            for worker in [*self._workers.values(), *self._leaving]:
                worker.leave()

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
        for worker in self._workers.values():
            # Instead of the signal, which might be there before the message.
            worker.state = "leaving"
            worker.send({"kind": "hand_over"})
        self.end("handed over")

    def stopService(self) -> Deferred[None]:
        """Let the workers finish."""
        super().stopService()
        self._stopping = max(1, self._stopping)
        self.manager.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for call in self._restarts.values():
            call.cancel()
        # The workers still have them, and take in who waits in their queues.
        for description, sock in self.open:
            self.sockets.close(description, sock)
        for worker in self._workers.values():
            if worker.state != "leaving":
                worker.leave()
        if self._workers or self._leaving:
            self._gone = Deferred()
            grace = self.settings.gateway.shutdown_grace + AUDIT_GRACE + LOOK
            kill = self.reactor.callLater(grace, self._kill)
            await self._gone
            if kill.active():
                kill.cancel()
        if self._store is not None:
            await self._store.stop()
        if self._watch.running:
            self._watch.stop()
        self.snapshot.close()
        self._board.close()
        self._log.info("stopped")

    def _kill(self) -> None:
        for worker in [*self._workers.values(), *self._leaving]:
            self._log.error("worker {n} does not end: killing it", n=worker.number)
            worker.signal(signal.SIGKILL)
