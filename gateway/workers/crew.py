# -*- test-case-name: tests.system.test_crew -*-
"""
The workers of a supervisor. Lets none be missing for long, and none stay that has stopped
beating.

A spare one has done what takes long, Python's start and the imports, and waits for a number:
it is what follows on a worker that has died, and then another spare is made ready.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel

from gateway.workers.pipe import Message
from gateway.workers.restarts import Restarts
from gateway.workers.share import Board
from gateway.workers.worker import Worker

#: Seconds a worker may take until it says that it serves.
START = 60.0

#: Seconds until another spare worker is tried when one has died.
SPARE = 30.0

#: Seconds between two looks at the workers.
LOOK = 1.0

#: What a worker is told to serve, and the descriptors for it.
Order = tuple[Message, list[int]]


class Crew:
    """
    @param order: what a worker with this number, which knows nothing yet, is told to serve.
    @param ready: called once, when each has been tried and one serves at least.
    @param directory: where the program was started.
    @param reactor_name: what C{--reactor} said.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        order: Callable[[int], Order],
        ready: Callable[[], object],
        directory: str,
        reactor_name: str,
    ) -> None:
        self._reactor = reactor
        self._order = order
        self._when_ready = ready
        self._directory = directory
        self._reactor_name = reactor_name
        self._board = Board()
        self._workers: dict[int, Worker] = {}
        self._leaving: set[Worker] = set()
        self._spare: Worker | None = None
        self._sparing: Any = None
        self._restarts = Restarts()
        self._waiting: dict[int, Any] = {}
        self._tried: set[int] = set()
        self._wanted = 0
        self._timeout = 0.0
        self._retired = 0
        self._ready = self._ending = False
        self._gone: Deferred[None] | None = None
        self._watch = LoopingCall(self._look)
        self._watch.clock = reactor
        self._looked = 0.0

    def watch(self) -> None:
        """Look at them from now on."""
        self._looked = self._reactor.seconds()
        self._watch.start(LOOK, now=False)

    def resize(self, wanted: int, timeout: float) -> None:
        """
        Have so many.

        @param timeout: seconds after which a silent one is killed.
        """
        self._wanted, self._timeout = wanted, timeout
        self._board.resize(wanted)
        for number in range(1, wanted + 1):
            if number not in self._workers and number not in self._waiting:
                self._start(number)
        for number in [each for each in self._waiting if each > wanted]:
            self._waiting.pop(number).cancel()
        for number in [each for each in self._workers if each > wanted]:
            self._dismiss(self._workers[number])

    def tell(self, message: Callable[[int], tuple[Message, Sequence[int]]]) -> None:
        """Tell all who stay something; one that takes no more messages is replaced."""
        for worker in list(self._workers.values()):
            if not worker.send(*message(worker.number)):
                self._replace(worker, "it takes no messages")

    def hand_over(self) -> None:
        """Another gateway has the sockets: finish and end."""
        self._ending = True
        self._dismiss_spare()
        for worker in self._workers.values():
            # Instead of the signal, which might be there before the message.
            worker.state = "leaving"
            worker.send({"kind": "hand_over"})

    def everybody(self) -> list[Worker]:
        """Those who serve, or may have to, and those who are leaving."""
        spare = [self._spare] if self._spare is not None else []
        return [*self._workers.values(), *self._leaving, *spare]

    def requests(self) -> int:
        """All that they and those before them have had."""
        return self._retired + sum(worker.requests for worker in self.everybody())

    def connections(self) -> int:
        """How many clients are connected."""
        return sum(worker.connections for worker in self.everybody())

    # -- the end

    def cut(self) -> None:
        """Wait for nothing that is in flight any more."""
        for worker in self.everybody():
            worker.leave()

    def leave(self, grace: float) -> Deferred[None]:
        """Have all finish; fires when they are gone, who are killed after C{grace} seconds."""
        self._ending = True
        for call in self._waiting.values():
            call.cancel()
        self._dismiss_spare()
        for worker in self._workers.values():
            if worker.state != "leaving":
                worker.leave()
        if not self.everybody():
            return succeed(None)
        self._gone = Deferred()
        kill = self._reactor.callLater(grace, self._kill)
        self._gone.addCallback(lambda _: kill.cancel() if kill.active() else None)
        return self._gone

    def close(self) -> None:
        """All are gone."""
        if self._watch.running:
            self._watch.stop()
        self._board.close()

    def _kill(self) -> None:
        for worker in self.everybody():
            self._log.error("worker {n} does not end: killing it", n=worker.number)
            worker.signal(signal.SIGKILL)

    # -- one

    def _start(self, number: int) -> None:
        self._waiting.pop(number, None)
        worker, self._spare = self._spare, None
        try:
            worker = worker or self._made()
        except OSError as error:
            self._again(number, 0.0, f"worker {number} can't be started: {error}")
            return
        worker.begin(number, *self._order(number))
        self._workers[number] = worker

    def _made(self) -> Worker:
        worker = Worker(self._reactor, self._told, self._ended)
        worker.start(self._board.descriptor, self._reactor_name, self._directory)
        return worker

    def _prepare(self) -> None:
        """Have a spare one, once all others serve: they have the processors first."""
        self._sparing = None
        serving = sum(each.state == "ready" for each in self._workers.values())
        if self._spare is None and serving == self._wanted and not self._ending:
            try:
                self._spare = self._made()
            except OSError as error:
                self._log.warn("no spare worker: {error}", error=error)

    def _dismiss_spare(self) -> None:
        if self._sparing is not None:
            self._sparing.cancel()
            self._sparing = None
        spare, self._spare = self._spare, None
        if spare is not None:
            self._leaving.add(spare)
            spare.heard = self._reactor.seconds()  # it has had nothing to say so far
            spare.leave()

    def _told(self, worker: Worker, message: Message) -> None:
        kind = message["kind"]
        if kind == "beat":
            worker.requests, worker.connections = message["requests"], message["connections"]
        elif kind == "log":
            self._say(worker, message)
        elif kind == "ready":
            self._log.info("worker {n} serves, process {pid}", n=worker.number, pid=worker.pid)
            worker.state = "ready"
            self._tried.add(worker.number)
            self._maybe_ready()
            self._prepare()
        elif kind == "failed":
            worker.reason = message["reason"]
        elif kind == "refused":
            self._replace(worker, "it could not reload: " + "; ".join(message["reasons"]))

    def _say(self, worker: Worker, message: Message) -> None:
        """A worker's line in the log, with its time and its level."""
        level = LogLevel.lookupByName(message["level"])
        self._log.emit(
            level, "{text}", text=message["text"], log_time=message["time"],
            log_system=f"worker {worker.number} {message['namespace']}#{message['level']}",
        )  # fmt: skip

    def _maybe_ready(self) -> None:
        if not self._ready and set(range(1, self._wanted + 1)) <= self._tried:
            self._ready = True
            self._when_ready()

    def _ended(self, worker: Worker, how: str) -> None:
        """A worker is gone."""
        self._retired += worker.requests
        self._leaving.discard(worker)
        number, lived = worker.number, self._reactor.seconds() - worker.born
        mine = self._workers.get(number) is worker
        if mine:
            del self._workers[number]
            self._board.vacate(number)
        if self._ending:
            if not self.everybody() and self._gone is not None:
                gone, self._gone = self._gone, None
                gone.callback(None)
        elif worker is self._spare:
            self._spare = None
            self._log.warn("the spare worker has ended: {how}", how=how)
            self._sparing = self._reactor.callLater(SPARE, self._prepare)
        elif mine:
            self._again(number, lived, f"worker {number}, process {worker.pid}, has ended: {how}")

    def _again(self, number: int, lived: float, why: str) -> None:
        """Start a worker anew, later the more often it has failed."""
        wait = self._restarts.wait(number, lived)
        failures = self._restarts.failures(number)
        often = f" ({failures} times soon after its start)" if failures > 1 else ""
        when = f"in {wait:.1f} s" if wait else "at once"
        self._log.error("{why}{often}; starting another {when}", why=why, often=often, when=when)
        self._waiting[number] = self._reactor.callLater(wait, self._start, number)
        if any(each.state == "ready" for each in self._workers.values()):
            self._tried.add(number)
            self._maybe_ready()

    def _replace(self, worker: Worker, why: str) -> None:
        """Let a worker go that is no use, and start another at once."""
        self._log.error("worker {n} is replaced: {why}", n=worker.number, why=why)
        self._dismiss(worker)
        self._start(worker.number)

    def _dismiss(self, worker: Worker) -> None:
        if self._workers.get(worker.number) is worker:
            del self._workers[worker.number]
            self._board.vacate(worker.number)
        self._leaving.add(worker)
        worker.leave()

    # -- once a second

    def _look(self) -> None:
        now = self._reactor.seconds()
        late, self._looked = now - self._looked > 3 * LOOK, now
        for worker in self.everybody():
            if late:
                # This process was stopped itself: what the workers said is still unread.
                worker.heard = now
            silent = now - worker.heard
            if worker.state in ("ready", "leaving") and silent > self._timeout:
                self._log.error(
                    "worker {n}, process {pid}, has been silent for {silent:.0f} s: killing it",
                    n=worker.number, pid=worker.pid, silent=silent,
                )  # fmt: skip
                worker.signal(signal.SIGKILL)
            elif worker.state == "starting" and now - worker.born > START:
                worker.reason = f"it did not serve within {START:.0f} s"
                worker.signal(signal.SIGKILL)
