# -*- test-case-name: tests.upstream.test_targets -*-
"""
Where a route leads: one upstream address, its connections, its circuit.

An C{https} upstream is let in only when its certificate is valid for its host name
(service-identity, RFC 9525); there is no option to turn that off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint

from gateway.exchange import RESPONSE_RULES
from gateway.http.pool import Pool, PoolLimits
from gateway.http.response_heads import ResponseHeads
from gateway.http.sweep import Sweep
from gateway.trust import client_tls

if TYPE_CHECKING:
    from gateway.settings import RouteSettings, UpstreamSettings
    from gateway.upstream.circuits import Circuit, Circuits


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
    Makes targets; those with one address and equal settings share their connections.

    @param reactor: for endpoints: TCP, name resolution, TLS.
    """

    def __init__(self, reactor: Any, sweep: Sweep, circuits: Circuits) -> None:
        self._reactor = reactor
        self._sweep = sweep
        self._circuits = circuits
        self._heads = ResponseHeads(RESPONSE_RULES)
        self._pools: dict[tuple[str, str, int, UpstreamSettings], Pool] = {}

    def of(self, route: RouteSettings) -> Target:
        """The target of a route."""
        url = urlsplit(route.upstream)
        host = url.hostname or ""
        port = url.port or (443 if url.scheme == "https" else 80)
        key = (url.scheme, host, port, route.upstream_settings)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._pool(url.scheme, host, port, route.upstream_settings)
        breaker = route.breaker
        return Target(
            name=f"{url.scheme}://{url.netloc}",
            host=None if route.keep_host else url.netloc.encode("ascii"),
            base=url.path.rstrip("/").encode("ascii"),
            pool=pool,
            circuit=self._circuits.of((host, port), breaker.failures, breaker.reset_after),
            statuses=frozenset(breaker.statuses),
        )

    def _pool(self, scheme: str, host: str, port: int, settings: UpstreamSettings) -> Pool:
        endpoint = self._endpoint(host, port, settings.connect_timeout)
        if scheme == "https":
            endpoint = wrapClientTLS(client_tls(host, settings.ca_file), endpoint)
        limits = PoolLimits(
            response_timeout=settings.response_timeout,
            read_timeout=settings.read_timeout,
            connections=settings.connections,
            queue=settings.queue,
            queue_timeout=settings.queue_timeout,
            idle_connections=settings.idle_connections,
            idle_timeout=settings.idle_timeout,
        )
        return Pool(endpoint, self._heads, self._sweep, limits)

    def _endpoint(self, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
        if isIPAddress(host):
            return TCP4ClientEndpoint(self._reactor, host, port, timeout)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self._reactor, host, port, timeout)
        return HostnameEndpoint(self._reactor, host, port, timeout)

    def close(self) -> None:
        """End idle connections, make no more."""
        for pool in self._pools.values():
            pool.close()

    def abort(self) -> None:
        """End all connections now."""
        for pool in self._pools.values():
            pool.abort()
