# -*- test-case-name: tests.stores.test_shared -*-
"""
What processes tell each other through the shared store: entries with a name, a payload and
an end, such as an open circuit or a revoked token. Lets in what the store's script returns;
drops anything of another form.

Each process looks several times a second, in one call that also carries what it has to
tell, and asks only for what has changed since it last looked. So nothing is missed when a
connection breaks, a server is restarted empty (everybody tells it again what they know), or
the store is away for a while: an entry holds in this process at once, and everywhere else as
soon as the store can be asked.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import Logger

from gateway.stores.script import command, sha

#: Seconds between two looks, and after which a look that got no answer drops its connection.
LOOK, GIVE_UP = 0.25, 1.0

#: Entries in one look each way, and in all.
PAGE, MOST = 500, 100_000

_SOURCE = Path(__file__).with_name("shared.lua")

#: Called with an entry's key, its payload and the seconds it has left.
Hears = Callable[[str, str, float], object]


class Line(Protocol):
    """A connection, such as L{gateway.stores.link.Connection}."""

    def ask(self, data: bytes, waiter: Any) -> None:
        """Send a command; the reply or an exception goes to C{waiter.callback}."""

    def abort(self) -> None:
        """End it."""


class SharedState:
    """
    @param line: the connection of the moment, or C{None}.
    @param clock: tells the time and calls later.
    @param name: the gateway's: those of one name hear each other.
    @ivar before: called before each look, to L{put} what is new.
    @ivar refused: entries for which there was no room.
    @ivar looked: how many looks were answered.
    """

    _log = Logger()

    def __init__(self, line: Callable[[], Line | None], clock: Any, name: str) -> None:
        self._line = line
        self._clock = clock
        self._source = _SOURCE.read_bytes()
        self._sha = sha(self._source)
        tag = b"{%b}:shared:" % name.encode("ascii")
        self._keys = [tag + each for each in (b"payloads", b"order", b"ends", b"meta")]
        self._hears: dict[str, list[Hears]] = {}
        #: By kind and key: payload and end, in the clock's seconds.
        self._entries: dict[tuple[str, str], tuple[str, float]] = {}
        self._ends: list[tuple[float, tuple[str, str]]] = []
        #: What the others have not been told yet, and whether it is only a reminder.
        self._untold: dict[tuple[str, str], bool] = {}
        self._epoch, self._seen = b"", b"0"
        self._asking: _Look | None = None
        self._call: Any = None
        self.before: list[Callable[[], object]] = []
        self.refused = 0
        self.looked = 0

    def start(self) -> None:
        """Begin to look."""
        self._call = self._clock.callLater(0, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def put(self, kind: str, key: str, payload: str, seconds: float) -> bool:
        """
        Tell all others, now or as soon as the store can be asked. Those who listen in this
        process are not told.

        @return: whether there was room.
        """
        self._forget()
        name = (kind, key)
        if name not in self._entries and len(self._entries) >= MOST:
            self.refused += 1
            return False
        self._remember(name, payload, self._clock.seconds() + seconds)
        self._untold[name] = False
        return True

    def listen(self, kind: str, hears: Hears) -> None:
        """
        Hear of the entries of a kind, all that there are and then each change. An entry may be
        told again.
        """
        self._hears.setdefault(kind, []).append(hears)
        now = self._clock.seconds()
        for (of, key), (payload, end) in list(self._entries.items()):
            if of == kind and end > now:
                hears(key, payload, end - now)

    def entries(self, kind: str) -> dict[str, tuple[str, float]]:
        """By key: payload and seconds left."""
        now = self._clock.seconds()
        return {
            key: (payload, end - now)
            for (of, key), (payload, end) in self._entries.items()
            if of == kind and end > now
        }

    # -- looking

    def _look(self) -> None:
        self._call = self._clock.callLater(LOOK, self._look)
        self._forget()
        for call in self.before:
            call()
        now = self._clock.seconds()
        if self._asking is not None:
            if now - self._asking.since >= GIVE_UP:
                self._asking.line.abort()
            return
        line = self._line()
        if line is not None:
            told = list(islice(self._untold, PAGE))
            entries = {name: self._entries[name] for name in told}
            self._asking = look = _Look(self, line, now, entries)
            line.ask(self._command(told, now), look)

    def _command(self, told: list[tuple[str, str]], now: float) -> bytes:
        words = [b"EVALSHA", self._sha, b"4", *self._keys, self._epoch, self._seen]
        words += [b"%d" % PAGE, b"%d" % MOST]
        for name in told:
            payload, end = self._entries[name]
            life = b"%d" % max(1, int((end - now) * 1_000_000))
            words += [_spell(name), payload.encode(), life, b"%d" % self._untold[name]]
        return command(*words)

    def answered(self, look: _Look, reply: Any) -> None:
        """The answer to a look, or an exception."""
        self._asking = None
        if isinstance(reply, Exception):
            if str(reply).startswith("NOSCRIPT"):
                look.line.ask(command(b"SCRIPT", b"LOAD", self._source), _Nobody())
            return
        try:
            epoch, seen, now, refused = reply[0], reply[1], int(reply[2]), int(reply[3])
            found = [
                (_name(reply[at]), reply[at + 1].decode(), (int(reply[at + 2]) - now) / 1_000_000)
                for at in range(4, len(reply), 3)
            ]
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            self._log.warn("the shared store said something strange: {error}", error=error)
            return
        for name, entry in look.told.items():
            # Unless it has been put anew meanwhile.
            if self._entries.get(name) is entry:
                self._untold.pop(name, None)
        self.refused += refused
        if epoch != self._epoch:
            # Another server, or the same emptied: it hears again what we know. That may be old
            # news to it, so it is a reminder only.
            for name in self._entries:
                self._untold.setdefault(name, True)
        self._epoch, self._seen = epoch, seen
        self.looked += 1
        for name, payload, seconds in found:
            self._heard(name, payload, seconds)

    def _heard(self, name: tuple[str, str], payload: str, seconds: float) -> None:
        end = self._clock.seconds() + seconds
        known = self._entries.get(name)
        # Our own, come back, ends within the time it took to travel.
        if seconds <= 0 or (known is not None and known[0] == payload and end - known[1] < LOOK):
            return
        if name not in self._entries and len(self._entries) >= MOST:
            self.refused += 1
            return
        self._remember(name, payload, end)
        for hears in self._hears.get(name[0], ()):
            try:
                hears(name[1], payload, seconds)
            except Exception:
                self._log.failure("what another process told could not be used")

    # -- memory

    def _remember(self, name: tuple[str, str], payload: str, end: float) -> None:
        self._entries[name] = (payload, end)
        heapq.heappush(self._ends, (end, name))

    def _forget(self) -> None:
        now = self._clock.seconds()
        while self._ends and self._ends[0][0] <= now:
            _, name = heapq.heappop(self._ends)
            entry = self._entries.get(name)
            if entry is not None and entry[1] <= now:
                del self._entries[name]
                self._untold.pop(name, None)


class _Look:
    """One call and what it told; takes the reply itself."""

    def __init__(
        self,
        owner: SharedState,
        line: Line,
        since: float,
        told: dict[tuple[str, str], tuple[str, float]],
    ) -> None:
        self._owner = owner
        self.line = line
        self.since = since
        self.told = told

    def callback(self, reply: Any) -> None:
        """The reply, or an exception."""
        self._owner.answered(self, reply)


class _Nobody:
    """Takes a reply that nobody waits for."""

    def callback(self, _reply: Any) -> None:
        """Nothing."""


def _spell(name: tuple[str, str]) -> bytes:
    return "\0".join(name).encode("utf-8", "surrogatepass")


def _name(text: bytes) -> tuple[str, str]:
    kind, zero, key = text.decode("utf-8", "surrogatepass").partition("\0")
    if not zero:
        raise ValueError("an entry without a kind")
    return kind, key
