# -*- test-case-name: tests.system.test_explain -*-
"""
Makes a gateway that is never started, to ask it; lets nothing out but questions to the store
that processes share, where there is one, by a script that writes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from gateway.explain.nowhere import Nowhere
from gateway.explain.run import Asked, Seen, run
from gateway.express import ExpressLane
from gateway.service import GatewayService
from gateway.settings import Settings
from gateway.stores.sharing import SharedStore

#: Seconds to wait for a store; looks at whether it has answered in that time.
_PATIENCE, _LOOKS = 2.0, 200

FRESH = (
    "counters, circuits and verified tokens are in the memory of the processes that serve; "
    "they were taken to be fresh."
)
SHARED = (
    "counters and open circuits are those of the shared store; verified tokens and what the "
    "processes count in their own memory were taken to be fresh."
)
AWAY = "the shared store can't be asked now; nothing is known of its counters and circuits."


class _Looking(GatewayService):
    only_looks = True


def ask_now(settings: Settings, asked: Asked) -> tuple[Seen, list[str]]:
    """Where all that is to be known is known at once."""
    found: list[Seen] = []
    _ask(_Looking(settings, Nowhere()), asked).addCallback(found.append)
    return found[0], [FRESH]


def ask_store(settings: Settings, asked: Asked) -> tuple[Seen, list[str]]:
    """Where counters are elsewhere: runs the reactor until they have been read."""
    found: list[tuple[Seen, list[str]]] = []

    async def ask(reactor: Any) -> None:
        rate = replace(settings.ratelimit, store_timeout=_PATIENCE)
        service = _Looking(replace(settings, ratelimit=rate), reactor)
        assert service.store is not None
        there = await _meet(service.store, reactor)
        seen = await _ask(service, asked)
        found.append((seen, [SHARED if there else AWAY]))
        service.store.state.stop()
        service.store.buckets.stop()
        service.store.remote.stop()

    try:
        react(lambda reactor: Deferred.fromCoroutine(ask(reactor)))
    except SystemExit:
        if not found:
            raise
    return found[0]


async def _meet(store: SharedStore, reactor: Any) -> bool:
    """Connect, to read only, and hear what processes have told each other; whether it is there."""
    store.remote.only_look()
    store.remote.start()
    store.state.start()
    for _ in range(_LOOKS):
        if store.state.looked:
            return True
        await deferLater(reactor, _PATIENCE / _LOOKS)
    return False


def _ask(service: GatewayService, asked: Asked) -> Deferred[Seen]:
    generation, lane = service.generation, service.generation.resource
    assert isinstance(lane, ExpressLane)
    return run(service.settings, lane.parts, generation.heads, generation.limits, asked)
