# -*- test-case-name: tests.test_service -*-
"""
Starts, reloads and stops the parts, in order; the only module that knows them all.

Start: the database, then the clockwork, then the listeners: nobody is let in before
there is somewhere to remember it. Stop: the listeners, what is in flight (for
C{shutdown_grace} seconds), the upstreams, the database last. What a reload replaces is
in L{gateway.generation}.
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from gateway.answers import fault
from gateway.audit.writer import AuditWriter
from gateway.build import failure_policies, processes
from gateway.buildproofs import look_after
from gateway.cores import COMPILED
from gateway.descriptors import raise_limit, shortage
from gateway.exchange import Exchange
from gateway.generation import Lasting, beat, generation, hold
from gateway.http.site import Site
from gateway.http.sweep import Sweep
from gateway.issuers.telling import Telling
from gateway.listeners import Listeners
from gateway.notify import Manager
from gateway.reloading import Reloading
from gateway.revocation.enforced import obey, refusal
from gateway.revocation.entries import Entry, Revocations
from gateway.revocation.journal import Journal
from gateway.revocation.watch import Watch
from gateway.settings import Settings
from gateway.sockets import CannotListen, Sockets
from gateway.stores.memory import MemoryBuckets
from gateway.stores.sharing import SharedStore, share_circuits, shared_store
from gateway.workers.share import Place

#: Seconds after the grace in which what was written last may still leave.
LAST_BYTES = 0.25

#: Seconds for the audit's last rows when the disk does not answer.
AUDIT_GRACE = 10.0


class GatewayService(Service):
    """
    The gateway as a service.

    @param reactor: listens, connects, tells the time, has the thread pool.
    @param sockets: opens the listening sockets, or has them already.
    @param place: which worker this is, where there are several.
    @param source: reads the configuration anew, for C{SIGHUP}; C{None}: there is nothing
        to read, and the signal keeps its old meaning.
    @ivar generation: the configuration that serves.
    @ivar descriptor_limit: how many the process may have.
    @ivar supervised: whether this is a worker of several.
    @ivar when_ready: called when it serves.
    @cvar only_looks: neither counts nor tells others anything; such a one is never started.
    """

    _log = Logger()
    only_looks = False

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        source: Callable[[], Settings] | None = None,
        sockets: Sockets | None = None,
        place: Place | None = None,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self.sweep = Sweep(reactor, beat(settings))
        #: Counters, circuits and revocations that several processes share, where configured.
        self.store: SharedStore | None = shared_store(
            settings, reactor, failure_policies(settings), processes(settings)
        )
        self.buckets: Any = (
            self.store.buckets if self.store else MemoryBuckets(settings.ratelimit.keys)
        )
        audit = settings.audit
        self.audit = AuditWriter(
            audit.database,
            batch=audit.batch,
            flush_interval=audit.flush_interval,
            queue=audit.queue,
            retention=audit.retention,
            note=self._note,
            worker=place.worker if place is not None else 0,
        )
        self.revocations = Revocations()
        self.lasting = Lasting(
            reactor, self.sweep, self.audit, self.buckets, now=time.time, clock=time.monotonic,
            revoked=refusal(self.revocations),
        )  # fmt: skip
        self.generation = first = generation(settings, self.lasting)
        self.site = Site(first.resource, first.heads, self.sweep, first.limits, fault, Exchange)
        hold(first, self.lasting, self.site)
        if self.store is not None:
            share_circuits(
                lambda: self.generation.targets.circuits, self.store.state, time.monotonic
            )
        share = place.share(self.site.__len__) if place is not None else None
        if place is not None:
            self.site.neighbours = place.board.neighbours(place.worker)
        self.listeners = Listeners(reactor, self.site, sockets or Sockets(), share)
        self.revocations.heard.append(self._obey)
        #: Brings in what is revoked elsewhere.
        self.watch = Watch(
            self.revocations, Journal(settings.gateway.revocations), time.time, reactor,
            self.store.state if self.store is not None else None,
            keeps=not self.only_looks, in_thread=self.in_thread,
        )  # fmt: skip
        #: What gateway keys shows.
        self.telling = Telling(
            settings.gateway, place.worker if place is not None else 0, self.in_thread,
            time.monotonic, time.time,
        )  # fmt: skip
        self.manager = Manager(reactor, self.audit.seen, self.site.__len__)
        self.descriptor_limit = 0
        self.supervised = place is not None
        self.when_ready: list[Callable[[], object]] = []
        self._reloading = Reloading(self, source)
        self._stopping = 0
        self._last: Any = None

    @property
    def settings(self) -> Settings:
        """Those that hold now."""
        return self.generation.settings

    def in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """What may wait for a disk is called in the reactor's thread pool."""
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, call, *arguments)

    # -- start

    def startService(self) -> None:
        """Open the database, then the listeners; exits with 1 and a sentence on failure."""
        super().startService()
        self.descriptor_limit = raise_limit()
        try:
            self.audit.start()
        except Exception as error:
            raise SystemExit(f"gateway: the audit database can't be used: {error}") from None
        self.sweep.beats.append(self._forget)
        self.sweep.start()
        self.watch.start()
        if self.store is not None:
            try:
                self.store.start()
            except OSError as error:
                self.audit.stop()
                raise SystemExit(f"gateway: the embedded store can't be run: {error}") from None
        settings = self.settings
        try:
            self.listeners.add(settings.gateway.listen)
        except CannotListen as error:
            self.audit.stop()
            raise SystemExit(f"gateway: {error}") from None
        self.generation.sources.start()
        connections = self.generation.targets.connections()
        short = shortage(self.descriptor_limit, settings.gateway.max_connections, connections)
        for warning in (*settings.warnings, short):
            if warning:
                self._log.warn("{warning}", warning=warning)
        self._reactor.callWhenRunning(self._running)

    def _forget(self) -> None:
        """Counters that count nothing any more."""
        now = int(time.time() * 1_000_000)
        self.buckets.sweep(now)
        refused = self.generation.refused
        if refused is not None:
            refused.buckets.sweep(now)
        if self.generation.proofs is not None:
            look_after(self.generation.proofs, now)
        self._tell()

    def _tell(self) -> None:
        proofs = self.generation.proofs
        keys = proofs.keys if proofs is not None else None
        self.telling.look(self.settings, self.generation.sources, keys)

    def _obey(self, entries: list[Entry]) -> None:
        """Something has been revoked."""
        forgotten, cut = obey(entries, self.generation.tokens, self.site)
        self._log.info(
            "{count} revocations: {forgotten} verified tokens forgotten, {cut} requests cut",
            count=len(entries), forgotten=forgotten, cut=cut,
        )  # fmt: skip

    def _running(self) -> None:
        # Plain twistd dies of SIGTERM; the reactor's own handlers are set after services
        # start, so ours can only be set from here.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        if self._source is not None:
            signal.signal(signal.SIGHUP, self._hung_up)
        # What is alive now lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        gc.enable()
        self._tell()
        for port in self.site.ports:
            self._log.info("listening on {host}", host=port.getHost())
        way = "compiled" if COMPILED else "interpreted"
        self._log.info("ordinary requests take the {way} lane", way=way)
        self.manager.ready()
        for call in self.when_ready:
            call()

    # -- reload

    def reload(self, settings: Settings) -> Deferred[None]:
        """
        Have other settings hold, for all requests that come from now on.

        @return: fires when they do; fails with L{gateway.reloading.ReloadRefused}, and
            then nothing has changed.
        """
        return Deferred.fromCoroutine(self._reloading.change(settings))

    def _hung_up(self, _number: int, _frame: object) -> None:
        self._reactor.callFromThread(self._reloading.signalled)

    # -- stop

    def _signalled(self, number: int, _frame: object) -> None:
        self._reactor.callFromThread(self.end, signal.Signals(number).name)

    def end(self, why: str) -> None:
        """Stop; asked again, cut what is in flight."""
        self._stopping += 1
        if self._stopping == 1:
            self._log.info("{why}: stopping", why=why)
            self._reactor.stop()
        else:
            self._log.warn("{why} again: cutting", why=why)
            self.site.cut()

    def descriptors(self) -> list[tuple[str, int]]:
        """The listening sockets, for a successor."""
        return self.listeners.descriptors()

    def hand_over(self) -> None:
        """A successor has the sockets and serves: finish what is in flight, and end."""
        self.listeners.hand_over()
        self.end("handed over")

    def stopService(self) -> Deferred[None]:
        """Let what is in flight finish, then flush the audit."""
        super().stopService()
        self.manager.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.listeners.close()
        # From here on whoever is answered is told to come back elsewhere. Who is silent may
        # have a request on its way, so that only the grace's end closes on them.
        drained = self.site.drain()
        self._last = self._reactor.callLater(self.settings.gateway.shutdown_grace, self._late)
        await drained
        if self._last.active():
            self._last.cancel()
        self.generation.sources.stop()
        self.generation.targets.abort()
        self.sweep.stop()
        self.watch.stop()
        await self.telling.stop()
        if self.store is not None:
            await self.store.stop()
        await self.in_thread(self.audit.stop, AUDIT_GRACE)
        self._log.info("stopped")

    def _late(self) -> None:
        left = len(self.site)
        silent = self.site.close_idle()
        self._log.info("{count} connections were silent to the grace's end", count=silent)
        if busy := left - silent:
            self._log.warn("{count} connections outlived the grace: cutting", count=busy)
        self._last = self._reactor.callLater(LAST_BYTES if silent else 0, self.site.cut)

    def _note(self, level: str, text: str) -> None:
        """The audit's thread has something to say; the logger may be used from any thread."""
        getattr(self._log, level, self._log.warn)("{text}", text=text)
