# -*- test-case-name: tests.system.test_reload -*-
"""
The listening sockets: lets them open all together or not at all, and close without
losing anybody who has come in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.acceptor import Acceptor
from gateway.http.site import Door, Site
from gateway.sockets import CannotListen, Sockets
from gateway.workers.share import Share


@dataclass(frozen=True, slots=True)
class _Listener:
    description: str
    port: Acceptor
    door: Door


class Listeners:
    """
    Those that are open.

    @param reactor: listens, and tells the time.
    @param sockets: opens them.
    @param share: what the workers know of each other, where there are several.
    """

    def __init__(
        self, reactor: Any, site: Site, sockets: Sockets, share: Share | None = None
    ) -> None:
        self._reactor = reactor
        self._site = site
        self._sockets = sockets
        self._share = share
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

    def remove(self, descriptions: Sequence[str], grace: float) -> None:
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
        self._stop(leaving)
        channels = [
            channel for each in leaving for channel in self._site.drain_door(each.door)
        ]
        if channels:
            self._reactor.callLater(grace, _close_idle, channels)

    def close(self) -> None:
        """Close all; connections stay."""
        closing, self._open = self._open, []
        self._site.ports.clear()
        self._stop(closing)

    def descriptors(self) -> list[tuple[str, int]]:
        """The open ones with their numbers, for a successor."""
        return [(each.description, each.port.fileno()) for each in self._open]

    def hand_over(self) -> None:
        """A successor has them all: who waits in the kernel's queue is its guest."""
        self._sockets.handed_over()
        closing, self._open = self._open, []
        self._site.ports.clear()
        for each in closing:
            each.port.stopListening()

    def _stop(self, listeners: Sequence[_Listener]) -> None:
        for each in listeners:
            self._accept_waiting(each.port)
            each.port.stopListening()

    def _accept_waiting(self, port: Acceptor) -> None:
        """Empty the kernel's queue, as far as there is room: its end would reset them."""
        while len(self._site) < self._site.limits.max_connections and port.accept():
            pass

    def _listen(self, description: str) -> _Listener:
        door = Door(self._site)
        sock = self._sockets.open(description)
        close = partial(self._sockets.close, description)
        port = Acceptor(self._reactor, sock, door, close, self._share)
        port.startListening()
        return _Listener(description, port, door)


def _close_idle(channels: list[Any]) -> None:
    for channel in channels:
        channel.close_if_idle()
