# -*- test-case-name: tests.system.test_explain -*-
"""
Makes a gateway that is never started, to ask it; lets nothing out but questions without which
nobody could say: to the store that processes share, by a script that writes nothing, and to
those who vouch for tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from gateway.explain.nowhere import Nowhere
from gateway.explain.run import Asked, Seen, run
from gateway.express import ExpressLane
from gateway.service import GatewayService
from gateway.settings import Settings

#: Seconds to wait for somebody outside; looks at whether he has answered in that time.
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


def ask(settings: Settings, asked: Asked) -> tuple[Seen, list[str]]:
    """What would happen, and what to know about that."""
    alone = isinstance(settings.ratelimit.store, str)
    if alone:
        service = _Looking(settings, Nowhere())
        if not _outside(service):
            found: list[Seen] = []
            _run(service, asked).addCallback(found.append)
            return found[0], [FRESH]
    return _ask_outside(settings, asked)


def _outside(service: GatewayService) -> Any:
    """Those who vouch for tokens and are not this gateway, if there are any."""
    sources = getattr(service.generation, "sources", None)
    if sources is not None and (sources.issuers or sources.asked is not None):
        return sources
    return None


def _ask_outside(settings: Settings, asked: Asked) -> tuple[Seen, list[str]]:
    """Runs the reactor until all that must be known is known."""
    found: list[tuple[Seen, list[str]]] = []

    async def main(reactor: Any) -> None:
        patient = replace(settings.ratelimit, store_timeout=_PATIENCE)
        service = _Looking(replace(settings, ratelimit=patient), reactor)
        sources, store, notes = _outside(service), service.store, []
        if sources is not None:
            sources.start()
            issuers = sources.issuers.values()
            await _until(reactor, lambda: not any(each.keys.fetching for each in issuers))
        if store is not None:
            store.remote.only_look()
            store.remote.start()
            store.state.start()
            there = await _until(reactor, lambda: store.state.looked > 0)
            notes = [SHARED if there else AWAY]
        found.append((await _run(service, asked), notes or [FRESH]))
        if store is not None:
            store.state.stop()
            store.buckets.stop()
            store.remote.stop()
        if sources is not None:
            sources.stop()

    try:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
    except SystemExit:
        if not found:
            raise
    return found[0]


async def _until(reactor: Any, known: Callable[[], bool]) -> bool:
    """Whether it is known before patience ends."""
    for _ in range(_LOOKS):
        if known():
            return True
        await deferLater(reactor, _PATIENCE / _LOOKS)
    return known()


def _run(service: GatewayService, asked: Asked) -> Deferred[Seen]:
    generation, lane = service.generation, service.generation.resource
    assert isinstance(lane, ExpressLane)
    return run(service.settings, lane.parts, generation.heads, generation.limits, asked)
