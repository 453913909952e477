# -*- test-case-name: tests.system.test_workers -*-
"""
Lets another configuration come into force in all workers; a bad one, or one whose
listeners can't be opened, changes nothing in any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.audit.schema import open_database
from gateway.reloading import Reloading, ReloadRefused
from gateway.settings import Settings
from gateway.sockets import CannotListen
from gateway.workers.snapshot import Snapshot

if TYPE_CHECKING:
    from gateway.workers.supervisor import Supervisor

#: Reads and checks a configuration.
Source = Callable[[], tuple[Settings, Snapshot]]


class Reload(Reloading):
    """The reloads of a supervisor."""

    def __init__(self, supervisor: Supervisor, source: Source) -> None:
        super().__init__(supervisor, source)
        self._supervisor = supervisor

    async def _change(self, found: tuple[Settings, Snapshot]) -> None:
        settings, snapshot = found
        try:
            added = await self._prepare(settings)
        except BaseException:
            snapshot.close()
            raise
        # Nothing fails from here on.
        supervisor = self._supervisor
        supervisor.snapshot.close()
        supervisor.settings, supervisor.snapshot = settings, snapshot
        supervisor.open += added
        self._drop(settings)
        supervisor.tell_all(added)
        supervisor.resize()
        self._log.info("reloaded: {count} routes", count=len(settings.routes))

    async def _prepare(self, settings: Settings) -> list[tuple[str, Any]]:
        """The sockets of added listeners, open."""
        supervisor = self._supervisor
        if settings.audit.database != supervisor.settings.audit.database:
            try:
                await supervisor.in_thread(lambda path: open_database(path).close(),
                                           settings.audit.database)  # fmt: skip
            except Exception as error:
                raise ReloadRefused([f"the audit database can't be used: {error}"]) from None
        if not supervisor.running:
            raise ReloadRefused(["the gateway is stopping"])
        wanted, have = Counter(settings.gateway.listen), Counter(d for d, _ in supervisor.open)
        opened: list[tuple[str, Any]] = []
        try:
            for description in (wanted - have).elements():
                opened.append((description, supervisor.sockets.open(description)))
                self._log.info("listening on {description}, too", description=description)
        except CannotListen as error:
            for description, sock in opened:
                supervisor.sockets.close(description, sock)
            raise ReloadRefused([str(error)]) from None
        return opened

    def _drop(self, settings: Settings) -> None:
        """Listeners that are no more; the workers serve who waits in their queues."""
        supervisor = self._supervisor
        have = Counter(description for description, _ in supervisor.open)
        for description in (have - Counter(settings.gateway.listen)).elements():
            found = next(each for each in supervisor.open if each[0] == description)
            supervisor.open.remove(found)
            supervisor.sockets.close(*found)
            self._log.info("listening on {description} no more", description=description)
