# -*- test-case-name: tests.system.test_reload -*-
"""
Lets another configuration come into force in a running gateway, whole or not at all: a
bad one changes nothing, and every reason is logged and told to the service manager.

One after the other: a signal that comes while the file is being read has it read once
more afterwards, however many come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gateway.audit.schema import open_database
from gateway.descriptors import shortage
from gateway.generation import Generation, generation, hold
from gateway.settings import Settings, SettingsError
from gateway.settings.sections import SECTIONS
from gateway.sockets import CannotListen

if TYPE_CHECKING:
    from gateway.service import GatewayService


class ReloadRefused(Exception):
    """
    The old configuration stays.

    @ivar reasons: sentences, all that is wrong.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Reloading:
    """
    The reloads of a service.

    @param source: reads the configuration anew; called in a thread.
    """

    _log = Logger()

    def __init__(self, service: Any, source: Callable[[], Any] | None) -> None:
        self._service = service
        self._source = source
        self._lock = DeferredLock()
        self._reading = False
        self._again = False

    def signalled(self) -> None:
        """Somebody asks for the file to be read again."""
        if self._source is None:
            self._log.warn("asked to reload, but there is no file to read")
        elif self._reading:
            self._again = True
        else:
            self._reading = True
            Deferred.fromCoroutine(self._read(self._source)).addErrback(self._broken)

    async def _read(self, source: Callable[[], Any]) -> None:
        try:
            while True:
                self._again = False
                await self._once(source)
                if not self._again:
                    return
        finally:
            self._reading = False

    async def _once(self, source: Callable[[], Any]) -> None:
        service = self._service
        self._log.info("reloading")
        service.manager.reloading()
        try:
            settings = await service.in_thread(source)
            await self.change(settings)
        except SettingsError as error:
            self._refused([str(problem) for problem in error.problems])
        except ReloadRefused as error:
            self._refused(error.reasons)
        else:
            service.manager.reloaded(f"reloaded at {_moment()}")

    def _refused(self, reasons: list[str]) -> None:
        for reason in reasons:
            self._log.error("reload: {reason}", reason=reason)
        counted = f"{len(reasons)} problem{'s' if len(reasons) > 1 else ''}"
        self._log.error("reload refused: {counted}; the old configuration stays", counted=counted)
        count = f" (1 of {len(reasons)})" if len(reasons) > 1 else ""
        self._service.manager.reloaded(f"reload refused at {_moment()}{count}: {reasons[0]}")

    def _broken(self, failure: Any) -> None:
        self._log.failure("a reload failed; the old configuration stays", failure)
        self._service.manager.reloaded(f"reload failed at {_moment()}: see the log")

    async def change(self, settings: Any) -> None:
        """
        Have the settings hold.

        @raise ReloadRefused: and nothing has changed.
        """
        await self._lock.acquire()
        try:
            await self._change(settings)
        finally:
            self._lock.release()

    async def _change(self, settings: Any) -> None:
        service = self._service
        before = service.generation
        moved = await self._database(before.settings, settings)
        try:
            if not service.running:
                raise ReloadRefused(["the gateway is stopping"])
            added, removed = service.listeners.change(settings.gateway.listen)
            new = _made(settings, service, before)
            try:
                service.listeners.add(added)
            except CannotListen as error:
                raise ReloadRefused([str(error)]) from None
        except BaseException:
            if moved is not None:
                moved[1].close()
            raise
        # Nothing fails from here on.
        service.generation = new
        hold(new, service.lasting, service.site)
        audit = settings.audit
        service.audit.reconfigure(
            audit.batch, audit.flush_interval, audit.queue, audit.retention, moved
        )
        self._say(before.settings, new, added, removed)
        del before, new
        service.listeners.remove(removed, settings.gateway.shutdown_grace)

    async def _database(self, before: Settings, settings: Settings) -> Any:
        """The path and connection of another audit database, or C{None}: it is the same."""
        path = settings.audit.database
        if path == before.audit.database:
            return None
        try:
            return path, await self._service.in_thread(open_database, path)
        except Exception as error:
            raise ReloadRefused([f"the audit database can't be used: {error}"]) from None

    def _say(
        self, before: Settings, new: Generation, added: list[str], removed: list[str]
    ) -> None:
        settings = new.settings
        for description in added:
            self._log.info("listening on {description}, too", description=description)
        for description in removed:
            self._log.info("listening on {description} no more", description=description)
        short = shortage(
            self._service.descriptor_limit,
            settings.gateway.max_connections,
            new.targets.connections(),
        )
        kept = until_restart(before, settings, self._service.supervised)
        for warning in (*settings.warnings, *kept, short):
            if warning:
                self._log.warn("{warning}", warning=warning)
        self._log.info("reloaded: {count} routes", count=len(settings.routes))


def _made(settings: Settings, service: GatewayService, before: Generation) -> Generation:
    try:
        return generation(settings, service.lasting, before)
    except Exception as error:  # a file that was right when it was read, and is no more
        raise ReloadRefused([f"the configuration can't be used: {error}"]) from error


def until_restart(before: Settings, after: Settings, supervised: bool = False) -> list[str]:
    """
    Warnings about options that have changed, and that only a restart changes.

    @param supervised: how many workers there are is the supervisor's business, who needs
        none.
    """
    return [
        f"[{section}] {option.name} has changed in the file, which takes a restart"
        for section, (_, options) in SECTIONS.items()
        for option in options
        if (option.restart or (option.name == "workers" and not supervised))
        and getattr(getattr(before, section), option.attribute)
        != getattr(getattr(after, section), option.attribute)
    ]


def _moment() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
