# -*- test-case-name: tests.http.test_site -*-
"""
Lets connections in up to their bounds and gives each a channel; beyond them the
listening sockets rest and one address's surplus is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.web.resource import IResource

from gateway.cores import SiteCore
from gateway.http.bounds import Bounds
from gateway.http.channel import Channel
from gateway.http.heads import RequestHeads
from gateway.http.request import Request
from gateway.http.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Limits(Bounds):
    """Bounds of the client's side: seconds, bytes and counts. 0 per address: none."""

    header_timeout: float = 10.0
    body_timeout: float = 60.0
    send_timeout: float = 60.0
    idle_timeout: float = 75.0
    max_head: int = 32768
    max_request_line: int = 8192
    max_connections: int = 20000
    max_connections_per_ip: int = 0


class Neighbours(Protocol):
    """Connections of each peer in all processes that share the bound for one peer."""

    def add(self, address: str, by: int) -> None:
        """So many more, or fewer, are connected to this process."""

    def others(self, address: str) -> int:
        """How many the other processes have."""

    def replace(self, counts: Mapping[str, int]) -> None:
        """These are all that this process has."""


class Site(SiteCore, ServerFactory):
    """
    The factory of L{Channel}s over one resource tree.

    @param resource: renders every request; it is a leaf, or routes by itself.
    @param heads: the parser of request heads.
    @param fault: given a status, the whole answer (with C{Connection: close}) to a
        request that can't be understood.
    @param exchange: makes what the application keeps with each request.
    @ivar neighbours: what other processes have of each peer, where there are several.
    @ivar ports: listening ports, paused while C{max_connections} are open; see L{listening}.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        resource: IResource,
        heads: RequestHeads,
        sweep: Sweep,
        limits: Limits,
        fault: Callable[[int], bytes],
        exchange: Callable[[], Any] = lambda: None,
    ) -> None:
        self.resource = resource
        self.heads = heads
        self.sweep = sweep
        self.limits = limits
        self.fault = fault
        self.exchange = exchange
        self.ports: list[Any] = []
        self.draining = False
        self._channels: set[Channel] = set()
        self._per_peer: dict[str, int] = {}
        self.neighbours: Neighbours | None = None
        self._resting = False
        self._empty: list[Deferred[None]] = []

    def reconfigure(self, resource: IResource, heads: RequestHeads, limits: Limits) -> None:
        """
        Requests whose heads come from now on meet these; those under way go on as they
        began. Connections stay.
        """
        self.resource = resource
        self.heads = heads
        before, self.limits = self.limits, limits
        if self.neighbours is not None:
            # They are told only where there is a bound.
            bound = limits.max_connections_per_ip
            if bool(bound) != bool(before.max_connections_per_ip):
                self.neighbours.replace(self._per_peer if bound else {})
        for channel in self._channels:
            channel.retimed()
        self._rest_or_accept()

    def listening(self, port: Any) -> None:
        """One more port is open."""
        self.ports.append(port)
        if self._resting:
            port.stopReading()

    def buildProtocol(self, addr: IAddress | None) -> Channel | None:
        """A channel, or C{None}: the connection is closed at once."""
        most = self.limits.max_connections_per_ip
        if most and self._connections_of(getattr(addr, "host", None) or "unix") >= most:
            return None
        if self.draining or len(self._channels) >= self.limits.max_connections:
            return None
        return Channel(self)

    def opened(self, channel: Channel) -> None:
        """A channel has its transport."""
        self._channels.add(channel)
        self.sweep.watch(channel)
        peer = channel.peer or "unix"
        self._per_peer[peer] = self._per_peer.get(peer, 0) + 1
        most = self.limits.max_connections_per_ip
        if most and self.neighbours is not None:
            self.neighbours.add(peer, 1)
            if self._connections_of(peer) > most:
                # Another process has let one in at the same moment.
                channel.close_if_idle()
        if len(self._channels) >= self.limits.max_connections:
            self._rest_or_accept()

    def closed(self, channel: Channel) -> None:
        """A channel has lost its transport."""
        if channel not in self._channels:
            return
        self._channels.discard(channel)
        self.sweep.forget(channel)
        peer = channel.peer or "unix"
        left = self._per_peer.get(peer, 1) - 1
        if left:
            self._per_peer[peer] = left
        else:
            self._per_peer.pop(peer, None)
        if self.limits.max_connections_per_ip and self.neighbours is not None:
            self.neighbours.add(peer, -1)
        if self._resting:
            self._rest_or_accept()
        if not self._channels:
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    def _connections_of(self, peer: str) -> int:
        mine = self._per_peer.get(peer, 0)
        return mine if self.neighbours is None else mine + self.neighbours.others(peer)

    def _rest_or_accept(self) -> None:
        full = len(self._channels) >= self.limits.max_connections
        if full == self._resting:
            return
        self._resting = full
        if full:
            self._log.warn("{count} connections are open: accepting no more", count=len(self))
            for port in self.ports:
                port.stopReading()
        elif not self.draining:
            for port in self.ports:
                port.startReading()

    def __len__(self) -> int:
        return len(self._channels)

    def __bool__(self) -> bool:
        return True

    def broken(self, request: Request) -> None:
        """The resource tree has raised: say so, to the log and to the client."""
        self._log.failure("a resource failed")
        if request.started:
            request.abort()
        else:
            request.fault(500)

    def requests(self) -> list[Request]:
        """Those under way."""
        found = [channel.request for channel in self._channels]
        return [request for request in found if request is not None]

    def drain(self) -> Deferred[None]:
        """
        Answer what comes with C{Connection: close}; fires when no connection is left.

        Idle connections stay until L{close_idle}, those too whose answer had begun before
        and promised to go on: a request that is on its way to one would be lost.
        """
        self.draining = True
        # A successor may have this process's place among the others by now.
        self.neighbours = None
        if not self._channels:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        return done

    def close_idle(self) -> int:
        """Close the connections on which nothing is under way; how many there were."""
        return sum(channel.close_if_idle() for channel in list(self._channels))

    def drain_door(self, door: object) -> list[Channel]:
        """
        The same as L{drain} for the connections that came through one door, which are
        returned; nobody waits for them.
        """
        leaving = [channel for channel in self._channels if channel.door is door]
        farewell: Any = _Farewell(self)
        for channel in leaving:
            channel.site = farewell
        return leaving

    def cut(self) -> None:
        """Cut every connection that is left."""
        for channel in list(self._channels):
            channel.abort()


class _Farewell:
    """A site as the channels of a closed door see it: it drains. Others pay nothing for it."""

    draining = True

    def __init__(self, site: Site) -> None:
        self._site = site

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)


class Door(ServerFactory):
    """
    What one listening port lets in: channels of the site that know whence they came.

    @param site: says who may come in.
    """

    noisy = False

    def __init__(self, site: Site) -> None:
        self._site = site

    def buildProtocol(self, addr: IAddress | None) -> Channel | None:
        """See L{Site.buildProtocol}."""
        channel = self._site.buildProtocol(addr)
        if channel is not None:
            channel.door = self
        return channel
