# -*- test-case-name: tests.test_service -*-
"""
Starts and stops the parts, in order; the only module that knows them all.

Start: the database, then the clockwork, then the listeners: nobody is let in before
there is somewhere to remember it. Stop: the listeners, what is in flight (for
C{shutdown_grace} seconds), the upstreams, the database last.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import time
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from gateway.admission.peers import TrustedProxies
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Verifier
from gateway.answers import fault
from gateway.audit.writer import AuditWriter
from gateway.build import (
    failure_policies,
    processes,
    refused_limit,
    routes_of,
    terms_of,
    verification_key,
)
from gateway.chain import Parts, chain
from gateway.exchange import Exchange, request_rules
from gateway.http.heads import RequestHeads
from gateway.http.site import Limits, Site
from gateway.http.sweep import Sweep
from gateway.settings import GatewaySettings, Settings
from gateway.stores.memory import MemoryBuckets
from gateway.stores.sharing import SharedStore, share_circuits, shared_store
from gateway.upstream.circuits import Circuits
from gateway.upstream.targets import Targets

#: Seconds in which a request that is on its way to an idle connection may still arrive.
LAST_CALL = 0.25

#: Connections the kernel lets in for us before they are accepted.
BACKLOG = 4096

#: Seconds for the audit's last rows when the disk does not answer.
AUDIT_GRACE = 10.0


class GatewayService(Service):
    """
    The gateway as a service.

    @param reactor: listens, connects, tells the time, has the thread pool.
    """

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self._reactor = reactor
        gateway = settings.gateway
        self.sweep = Sweep(reactor, _beat(settings))
        self.targets = Targets(reactor, self.sweep, circuits := Circuits())
        self.circuits = circuits
        #: Counters, circuits and revocations that several processes share, where configured.
        self.store: SharedStore | None = shared_store(
            settings, reactor, failure_policies(settings), processes(settings)
        )
        if self.store is not None:
            share_circuits(lambda: circuits, self.store.state, time.monotonic)
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
        )
        key = verification_key(settings.jwt)
        terms = terms_of(settings)
        parts = Parts(
            audit=self.audit,
            routes=routes_of(settings, terms, self.targets),
            terms=terms,
            proxies=TrustedProxies(gateway.trusted_proxies, gateway.client_address_header),
            client_address_header=gateway.client_address_header,
            edge=gateway.edge,
            tokens=TokenCache(Verifier(key), settings.jwt.cache, settings.jwt.cache_size),
            buckets=self.buckets,
            refused=(refused := refused_limit(settings.ratelimit)),
            now=time.time,
            clock=time.monotonic,
        )
        self.tokens = parts.tokens
        self.refused = refused
        heads = RequestHeads(
            request_rules(gateway.client_address_header),
            max_request_line=gateway.max_request_line,
            max_fields=gateway.max_fields,
        )
        heads.vouched = self.tokens.values
        self.site = Site(
            chain(parts), heads, self.sweep, _limits(gateway), fault, Exchange
        )
        self._stopping = 0

    # -- start

    def startService(self) -> None:
        """Open the database, then the listeners; exits with 1 and a sentence on failure."""
        super().startService()
        _raise_descriptor_limit()
        try:
            self.audit.start()
        except Exception as error:
            raise SystemExit(f"gateway: the audit database can't be used: {error}") from None
        self.sweep.beats.append(self._forget)
        self.sweep.start()
        if self.store is not None:
            try:
                self.store.start()
            except OSError as error:
                self.audit.stop()
                raise SystemExit(f"gateway: the embedded store can't be run: {error}") from None
        for description in self.settings.gateway.listen:
            self._listen(description)
        for warning in self.settings.warnings:
            self._log.warn("{warning}", warning=warning)
        self._reactor.callWhenRunning(self._running)

    def _forget(self) -> None:
        """Counters that count nothing any more."""
        now = int(time.time() * 1_000_000)
        self.buckets.sweep(now)
        if self.refused is not None:
            self.refused.buckets.sweep(now)

    def _listen(self, description: str) -> None:
        if description.startswith("tcp:") and "backlog=" not in description:
            description += f":backlog={BACKLOG}"  # Twisted's own default, 50, drops a burst
        endpoint = serverFromString(self._reactor, description)
        failures: list[Any] = []
        endpoint.listen(self.site).addCallbacks(self.site.ports.append, failures.append)
        if failures:
            self.audit.stop()
            raise SystemExit(
                f"gateway: can't listen on {description}: {failures[0].getErrorMessage()}"
            )

    def _running(self) -> None:
        # Plain twistd dies of SIGTERM; the reactor's own handlers are set after services
        # start, so ours can only be set from here.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        # What is alive now lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        for port in self.site.ports:
            self._log.info("listening on {host}", host=port.getHost())

    def _signalled(self, number: int, _frame: object) -> None:
        self._reactor.callFromThread(self._terminate, number)

    def _terminate(self, number: int) -> None:
        self._stopping += 1
        if self._stopping == 1:
            self._log.info("{signal}: stopping", signal=signal.Signals(number).name)
            self._reactor.stop()
        else:
            self._log.warn("{signal} again: cutting", signal=signal.Signals(number).name)
            self.site.cut()

    # -- stop

    def stopService(self) -> Deferred[None]:
        """Let what is in flight finish, then flush the audit."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        closing = []
        for port in self.site.ports:
            accept = getattr(port, "doRead", None)
            if accept is not None:
                # Who has been let in by the kernel is served, all of them: Twisted accepts
                # only about as many at once as came the last time.
                port.numberAccepts = BACKLOG
                accept()
            closed = port.stopListening()
            if isinstance(closed, Deferred):
                closing.append(closed)
        # From here on whoever is answered is told to come back elsewhere.
        drained = self.site.drain()
        await DeferredList(closing)
        calls = [
            self._reactor.callLater(LAST_CALL, self.site.close_idle),
            self._reactor.callLater(self.settings.gateway.shutdown_grace, self._cut),
        ]
        await drained
        for call in calls:
            if call.active():
                call.cancel()
        self.targets.abort()
        self.sweep.stop()
        if self.store is not None:
            await self.store.stop()
        await deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), self.audit.stop, AUDIT_GRACE
        )
        self._log.info("stopped")

    def _cut(self) -> None:
        self._log.warn("{count} connections outlived the grace: cutting", count=len(self.site))
        self.site.cut()

    def _note(self, level: str, text: str) -> None:
        """The audit's thread has something to say; the logger may be used from any thread."""
        getattr(self._log, level, self._log.warn)("{text}", text=text)


def _limits(gateway: GatewaySettings) -> Limits:
    return Limits(
        header_timeout=gateway.header_timeout,
        body_timeout=gateway.body_timeout,
        send_timeout=gateway.send_timeout,
        idle_timeout=gateway.idle_timeout,
        max_head=gateway.max_head,
        max_request_line=gateway.max_request_line,
        max_connections=gateway.max_connections,
        max_connections_per_ip=gateway.max_connections_per_ip,
    )


def _beat(settings: Settings) -> float:
    """Seconds between two looks at the deadlines: a second, less where a time-out is short."""
    gateway = settings.gateway
    times = [
        gateway.header_timeout,
        gateway.body_timeout,
        gateway.send_timeout,
        gateway.idle_timeout,
    ]
    for route in settings.routes:
        upstream = route.upstream_settings
        times += [upstream.response_timeout, upstream.read_timeout, upstream.queue_timeout]
    return max(0.05, min(1.0, min(times) / 4))


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system allows this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A sandbox may forbid it; then the limit stays as the unit file has set it.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
