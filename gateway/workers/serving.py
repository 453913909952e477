# -*- test-case-name: tests.system.test_workers -*-
"""
What a worker does apart from serving: lets its supervisor reload and stop it, beats once
a second, and logs through the supervisor. Without a supervisor it finishes and ends.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.reloading import ReloadRefused
from gateway.service import GatewayService
from gateway.sockets import Sockets
from gateway.stores.owning import end_unowned
from gateway.workers.pipe import Frames, Message, Pipe
from gateway.workers.places import part_of
from gateway.workers.share import Board, Place
from gateway.workers.snapshot import Snapshot

#: Seconds between two signs of life.
BEAT = 1.0


@implementer(ILogObserver)
class _ToSupervisor:
    """Any thread's log events, to be logged by the supervisor."""

    def __init__(self, reactor: Any, pipe: Pipe) -> None:
        self._reactor = reactor
        self._pipe = pipe

    def __call__(self, event: LogEvent) -> None:
        level: Any = event.get("log_level", LogLevel.info)
        text = formatEvent(event)
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            text = f"{text}\n{failure.getTraceback()}" if text else failure.getTraceback()
        if not text or level is LogLevel.debug:
            return
        line = {
            "kind": "log",
            "time": event["log_time"],
            "level": level.name,
            "namespace": event.get("log_namespace", ""),
            "text": text[:65536],
        }
        if self._reactor.running:
            self._reactor.callFromThread(self._pipe.send, line)
        else:
            self._pipe.send(line)


class Serving:
    """
    A worker's whole life.

    @param sock: to the supervisor.
    @param board: the descriptor of L{Board}.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, number: int, board: int, sock: socket.socket, frames: Frames
    ) -> None:
        self._reactor = reactor
        self._number = number
        self._place = Place(number, Board(board))
        self._sockets = Sockets(owner=False)
        self._pipe = Pipe(reactor, sock, self._told, self._alone, frames)
        self._service: GatewayService | None = None
        self._orphan = False
        log = _ToSupervisor(reactor, self._pipe)
        globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)

    def run(self, message: Message, fds: list[int]) -> None:
        """Serve, until the end."""
        settings = self._settings(message, fds)
        if message["cpus"] and hasattr(os, "sched_setaffinity"):
            try:
                os.sched_setaffinity(0, message["cpus"])
            except OSError as error:
                self._log.warn("cpu_affinity: {error}", error=error)
        service = GatewayService(settings, self._reactor, None, self._sockets, self._place)
        self._service = service
        try:
            service.startService()
        except SystemExit as error:
            self._pipe.send({"kind": "failed", "reason": str(error).removeprefix("gateway: ")})
            raise SystemExit(1) from None
        self._reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        self._reactor.callWhenRunning(self._running)
        self._reactor.run()
        store = settings.ratelimit.store
        if self._orphan and not isinstance(store, str) and store.embedded:
            end_unowned(store.path)

    def _running(self) -> None:
        beat = LoopingCall(self._beat)
        beat.clock = self._reactor
        beat.start(BEAT)
        self._pipe.send({"kind": "ready"})
        self._pipe.take_waiting()
        if self._orphan:
            self._alone()

    def _beat(self) -> None:
        service = self._service
        assert service is not None
        counts = {"requests": service.audit.seen(), "connections": len(service.site)}
        self._pipe.send({"kind": "beat", **counts})

    # -- the supervisor's messages

    def _settings(self, message: Message, fds: list[int]) -> Any:
        snapshot = Snapshot(fds[0])
        names = message["listen"]
        given = [socket.socket(fileno=fd) for fd in fds[1:]]
        self._sockets.give(zip(names, given, strict=True))
        try:
            settings = snapshot.settings(os.environ)
        finally:
            snapshot.close()
        return part_of(settings, self._number, message["workers"])

    def _told(self, message: Message, fds: list[int]) -> None:
        assert self._service is not None
        if message["kind"] == "serve":
            done = Deferred.fromCoroutine(self._reload(self._service, message, fds))
            done.addErrback(lambda failure: self._refused([failure.getErrorMessage()]))
        elif message["kind"] == "hand_over":
            self._service.hand_over()

    async def _reload(self, service: GatewayService, message: Message, fds: list[int]) -> None:
        try:
            await service.reload(self._settings(message, fds))
        except ReloadRefused as error:
            self._refused(error.reasons)
        else:
            self._pipe.send({"kind": "reloaded"})
        finally:
            self._sockets.forget()

    def _refused(self, reasons: list[str]) -> None:
        self._pipe.send({"kind": "refused", "reasons": reasons})

    def _alone(self) -> None:
        """The supervisor is gone: nobody would restart or stop this worker."""
        self._orphan = True
        if self._reactor.running and self._service is not None and self._service.running:
            self._service.end("the supervisor is gone")
