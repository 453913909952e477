# -*- test-case-name: tests.system.test_store -*-
"""
All that belongs to a store which several processes share: its counters with what decides
without it, what it tells of others, and its server where that is the gateway's own.

Lets C{memory} be nothing of the kind: then txredisapi, which imports the global reactor, is
never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from gateway.settings import Settings
from gateway.stores.embedded import EmbeddedStore
from gateway.stores.failover import Failover
from gateway.stores.memory import MemoryBuckets
from gateway.stores.shared import SharedState

if TYPE_CHECKING:
    from gateway.stores.redis import RedisBuckets
    from gateway.stores.url import StoreAddress
    from gateway.upstream.circuits import Circuits


class SharedStore:
    """
    @ivar buckets: counters, for L{gateway.admission.ratelimit}.
    @ivar remote: those on the server, with their connections.
    @ivar state: what processes tell each other.
    @ivar server: the embedded one, where this process runs it.
    """

    _log = Logger()

    def __init__(
        self, address: StoreAddress, remote: RedisBuckets, buckets: Failover, state: SharedState,
        server: EmbeddedStore | None,
    ) -> None:  # fmt: skip
        self._address = address
        self.remote = remote
        self.buckets = buckets
        self.state = state
        self.server = server
        self._running = False

    def start(self) -> None:
        """
        Connect; an embedded server is started first.

        @raise OSError: if the embedded server can't be started.
        """
        self._running = True
        self.state.start()
        self._log.info("counters are shared through {store}", store=str(self._address))
        if self.server is None:
            self.remote.start()
        else:
            self.server.start().addCallback(self._served)

    def _served(self, _: None) -> None:
        if self._running:
            self.remote.start()

    def stop(self) -> Deferred[None]:
        """Let go of it; an embedded server ends."""
        self._running = False
        self.state.stop()
        self.buckets.stop()
        self.remote.stop()
        return self.server.stop() if self.server is not None else succeed(None)


def shared_store(
    settings: Settings, reactor: Any, policies: Mapping[bytes, str], processes: int
) -> SharedStore | None:
    """
    The configured store, or C{None} where counters are this process's own.

    An embedded server is run here by a gateway of one process; of several, their supervisor
    runs it (L{EmbeddedStore}).

    @param policies: on_store_failure by rules' ids, where it is not the common one.
    @param processes: how many share the limits.
    """
    rate, gateway = settings.ratelimit, settings.gateway
    address = rate.store
    if isinstance(address, str):
        return None
    from gateway.stores.redis import RedisBuckets  # noqa: PLC0415 - see above

    remote = RedisBuckets(
        reactor,
        address,
        gateway.name,
        timeout=rate.store_timeout,
        connections=rate.store_connections,
        ca_file=rate.store_ca_file,
    )
    buckets = Failover(
        remote,
        MemoryBuckets(rate.keys),
        reactor,
        rate.on_store_failure,
        policies,
        share=processes,
        name=f"the store {address}" if not address.embedded else str(address),
    )
    own = address.embedded and gateway.workers == 1
    server = EmbeddedStore(reactor, address.path, rate.keys) if own else None
    state = SharedState(remote.connection, reactor, gateway.name)
    return SharedStore(address, remote, buckets, state, server)


def share_circuits(
    circuits: Callable[[], Circuits], state: SharedState, clock: Callable[[], float]
) -> None:
    """
    What opens here opens for all others, and the other way round.

    @param circuits: those of the configuration that serves.
    @param clock: monotonic seconds, as the circuits are asked with.
    """
    told: dict[tuple[str, int], int] = {}

    def tell() -> None:
        now = clock()
        for address, circuit in circuits().each():
            if circuit.opened != told.get(address, 0):
                told[address] = circuit.opened
                left = circuit.left(now)
                if left > 0:
                    state.put("circuit", f"{address[0]}|{address[1]}", "open", left)

    def heard(key: str, _payload: str, seconds: float) -> None:
        host, _, port = key.rpartition("|")
        circuits().opened_elsewhere((host, int(port)), seconds, clock())

    state.before.append(tell)
    state.listen("circuit", heard)
