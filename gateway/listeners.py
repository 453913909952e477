# -*- test-case-name: tests.system.test_reload -*-
"""
The listening sockets: lets them open all together or not at all, and close without
losing anybody who has come in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString

from gateway.http.site import Door, Site

#: Connections that may wait in the kernel's queue until they are accepted.
BACKLOG = 4096


class CannotListen(Exception):
    """Says on what, and why not."""


@dataclass(frozen=True, slots=True)
class _Listener:
    description: str
    port: Any
    door: Door


class Listeners:
    """
    Those that are open.

    @param reactor: listens, and tells the time.
    """

    def __init__(self, reactor: Any, site: Site) -> None:
        self._reactor = reactor
        self._site = site
        self._open: list[_Listener] = []

    def change(self, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
        """What is to be added to, and taken from, the open ones."""
        have = Counter(each.description for each in self._open)
        want = Counter(wanted)
        return list((want - have).elements()), list((have - want).elements())

    def add(self, descriptions: Sequence[str]) -> None:
        """
        Open some more.

        @raise CannotListen: when one can't be opened; then none is.
        """
        opened: list[_Listener] = []
        try:
            for description in descriptions:
                opened += [self._listen(description)]
        except CannotListen:
            for each in opened:
                each.port.stopListening()
            raise
        self._open += opened
        for each in opened:
            self._site.listening(each.port)

    async def remove(self, descriptions: Sequence[str], grace: float) -> None:
        """
        Close some. Who has been let in by the kernel is served; a connection ends with the
        answer under way, or that to its next request, which has C{grace} seconds to come.
        """
        leaving = []
        for description in descriptions:
            found = next(each for each in self._open if each.description == description)
            self._open.remove(found)
            self._site.ports.remove(found.port)
            leaving.append(found)
        stopped = Deferred.fromCoroutine(self._stop(leaving))
        channels = [
            channel for each in leaving for channel in self._site.drain_door(each.door)
        ]
        if channels:
            self._reactor.callLater(grace, _close_idle, channels)
        await stopped

    async def close(self) -> None:
        """Close all; connections stay."""
        closing, self._open = self._open, []
        self._site.ports.clear()
        await self._stop(closing)

    async def _stop(self, listeners: Sequence[_Listener]) -> None:
        closing = []
        for each in listeners:
            self._accept_waiting(each.port)
            closed = each.port.stopListening()
            if isinstance(closed, Deferred):
                closing.append(closed)
        await DeferredList(closing)

    def _accept_waiting(self, port: Any) -> None:
        """Empty the kernel's queue, as far as there is room: its end would reset them."""
        accept = getattr(port, "doRead", None)
        if accept is None:
            return
        # Twisted accepts only about as many at once as came the last time.
        port.numberAccepts = BACKLOG
        before = -1
        while before < len(self._site) < self._site.limits.max_connections:
            before = len(self._site)
            accept()

    def _listen(self, description: str) -> _Listener:
        text = description
        if text.startswith("tcp:") and "backlog=" not in text:
            text += f":backlog={BACKLOG}"  # Twisted's own default, 50, drops a burst
        door = Door(self._site)
        ports: list[Any] = []
        failures: list[Any] = []
        try:
            listening = serverFromString(self._reactor, text).listen(door)
        except (ValueError, OSError) as error:  # no such descriptor handed over by systemd
            raise CannotListen(f"can't listen on {description}: {error}") from None
        listening.addCallbacks(ports.append, failures.append)
        if failures:
            raise CannotListen(
                f"can't listen on {description}: {failures[0].getErrorMessage()}"
            )
        return _Listener(description, ports[0], door)


def _close_idle(channels: list[Any]) -> None:
    for channel in channels:
        channel.close_if_idle()
