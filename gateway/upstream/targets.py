# -*- test-case-name: tests.upstream.test_targets -*-
"""
Where a route leads: one upstream address, its connections, its circuit.

An C{https} upstream is let in only when its certificate is valid for its host name
(service-identity, RFC 9525); there is no option to turn that off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from gateway.exchange import RESPONSE_RULES
from gateway.http.pool import Pool, PoolLimits
from gateway.http.response_heads import ResponseHeads
from gateway.http.sweep import Sweep
from gateway.trust import client_tls, signers_of
from gateway.upstream.circuits import Circuits

if TYPE_CHECKING:
    from gateway.settings import RouteSettings, UpstreamSettings
    from gateway.upstream.circuits import Circuit

    #: Scheme, host, port, settings, and the certificates that sign its own.
    _Key = tuple[str, str, int, UpstreamSettings, bytes]


@dataclass(eq=False, slots=True)
class Target:
    """
    @ivar name: scheme, host and port, for the audit and for messages.
    @ivar host: what the upstream's Host field says; C{None} keeps the client's.
    @ivar base: the URL's path, put before the rest of the request's; no final slash.
    @ivar statuses: answers that count as failures for the circuit.
    """

    name: str
    host: bytes | None
    base: bytes
    pool: Pool
    circuit: Circuit
    statuses: frozenset[int]


class Targets:
    """
    Makes the targets of one configuration; those with one address and equal settings
    share their connections.

    @param reactor: for endpoints: TCP, name resolution, TLS.
    @param before: those of the configuration before: their connections and circuits go on
        where nothing has changed.
    """

    def __init__(self, reactor: Any, sweep: Sweep, before: Targets | None = None) -> None:
        self._reactor = reactor
        self._sweep = sweep
        self._before = before
        self._pools: dict[_Key, Pool] = {}
        self.circuits: Circuits
        self._heads: ResponseHeads
        if before is not None:
            self.circuits, self._heads = Circuits(before.circuits), before._heads
        else:
            self.circuits, self._heads = Circuits(), ResponseHeads(RESPONSE_RULES)

    def of(self, route: RouteSettings) -> Target:
        """The target of a route."""
        url = urlsplit(route.upstream)
        host = url.hostname or ""
        port = url.port or (443 if url.scheme == "https" else 80)
        pool = self._shared(url.scheme, host, port, route.upstream_settings)
        breaker = route.breaker
        return Target(
            name=f"{url.scheme}://{url.netloc}",
            host=None if route.keep_host else url.netloc.encode("ascii"),
            base=url.path.rstrip("/").encode("ascii"),
            pool=pool,
            circuit=self.circuits.of((host, port), breaker.failures, breaker.reset_after),
            statuses=frozenset(breaker.statuses),
        )

    def hold(self) -> None:
        """These are the targets from now on; what nobody leads to any more ends by itself."""
        self.circuits.hold()
        before, self._before = self._before, None
        if before is not None:
            for pool in set(before._pools.values()) - set(self._pools.values()):
                pool.retire()

    def connections(self) -> int:
        """How many there may be, all targets together."""
        return sum(pool.limits.connections for pool in self._pools.values())

    def _shared(self, scheme: str, host: str, port: int, settings: UpstreamSettings) -> Pool:
        # The certificates themselves: their file may have been renewed under its old name.
        signers = signers_of(settings.ca_file) if scheme == "https" else b""
        key = (scheme, host, port, settings, signers)
        pool = self._pools.get(key)
        if pool is None and self._before is not None:
            pool = self._before._pools.get(key)
        if pool is None:
            pool = self._pool(scheme, host, port, settings, signers)
        self._pools[key] = pool
        return pool

    def _pool(
        self, scheme: str, host: str, port: int, settings: UpstreamSettings, signers: bytes
    ) -> Pool:
        endpoint = self._endpoint(host, port, settings.connect_timeout)
        if scheme == "https":
            endpoint = wrapClientTLS(client_tls(host, signers), endpoint)
        return Pool(endpoint, self._heads, self._sweep, PoolLimits.of(settings))

    def _endpoint(self, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port, timeout)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port, timeout)
        named = HostnameEndpoint(self._reactor, host, port, timeout)
        return _Bounded(named, self._reactor, timeout)

    def abort(self) -> None:
        """End all connections now."""
        for pool in self._pools.values():
            pool.abort()


@implementer(IStreamClientEndpoint)
class _Bounded:
    """
    Bounds an attempt as a whole. C{HostnameEndpoint} gives each address its time, but the
    look-up of the name as long as the resolver likes; where that fails for want of a file
    descriptor (C{OSError} instead of C{gaierror}), it would never end.
    """

    def __init__(self, endpoint: HostnameEndpoint, reactor: Any, timeout: float) -> None:
        self._endpoint = endpoint
        self._reactor = reactor
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See C{IStreamClientEndpoint}."""
        attempt = self._endpoint.connect(protocolFactory)
        return attempt.addTimeout(self._timeout, self._reactor, _timed_out)


def _timed_out(_result: object, _timeout: float) -> NoReturn:
    raise ConnectTimeout
