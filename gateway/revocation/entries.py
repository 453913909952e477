# -*- test-case-name: tests.revocation.test_entries -*-
"""
Lets a verified token through unless it has been revoked: by its C{jti}, by its user and when
it was issued, or by the key that it names; an API key by its user or its name, and when it was
made; a certificate by its user, and from when it is valid.

Asked when a token is verified, not at each request: what has been verified before is
forgotten when a revocation comes. For keys and certificates it is asked at each. Of two words
on the same thing the later one holds, wherever it was said, so that all who hear of them in
any order agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

JTI, USER, KID, KEY = KINDS = ("jti", "user", "kid", "key")

#: Entries that are kept; when full, no more can be made.
MOST = 100_000

#: Characters of what is revoked, and of the reason.
MAX_VALUE, MAX_REASON = 512, 200

#: Seconds for which it is remembered that something was undone.
UNDONE_FOR = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One thing that is revoked, or no longer is.

    @ivar kind: C{jti}, C{user}, C{kid}, or C{key} for an API key's name.
    @ivar before: of a user or a key: what was issued before it (unix seconds).
    @ivar until: unix seconds when no such token can be valid any more; infinite: who knows.
    @ivar at: when it was said.
    """

    kind: str
    value: str
    at: float
    before: float = math.inf
    until: float = math.inf
    reason: str = ""
    undone: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.kind, self.value

    def to_json(self) -> str:
        """One line."""
        found = {
            name: value
            for name, value in asdict(self).items()
            if value not in ("", False) and value != math.inf
        }
        return json.dumps(found, sort_keys=True)

    def __str__(self) -> str:
        from gateway.revocation.times import moment  # noqa: PLC0415 - for people only

        said = [f"{self.kind} {self.value}"]
        said += [f"issued before {moment(self.before)}"] if self.before != math.inf else []
        said += [f"until {moment(self.until)}"] if self.until != math.inf else []
        said += [f"since {moment(self.at)}"] + ([f"({self.reason})"] if self.reason else [])
        return ", ".join(said)


def from_json(line: str) -> Entry | None:
    """An entry, or C{None} for what is none."""
    try:
        found = json.loads(line)
        entry = Entry(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    times = (entry.at, entry.before, entry.until)
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in times):
        return None
    if math.isnan(sum(map(abs, times))) or not math.isfinite(entry.at):
        return None
    return entry if _sane(entry) else None


def _sane(entry: Entry) -> bool:
    return (
        entry.kind in KINDS
        and is_name(entry.value, MAX_VALUE)
        and (entry.reason == "" or is_name(entry.reason, MAX_REASON))
        and isinstance(entry.undone, bool)
    )


def is_name(value: object, most: int) -> bool:
    """Whether a text can be the value of an entry."""
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


class Revocations:
    """
    All that is revoked, as this process knows it.

    @ivar heard: called with the entries that have come into force.
    @ivar refused: entries for which there was no room.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self.heard: list[Callable[[list[Entry]], object]] = []
        self.refused = 0

    def merge(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Learn of some; those of which something is new, once they are in force."""
        news = []
        for entry in entries:
            known = self._entries.get(entry.key)
            if _over(entry, now) or (known is not None and _rank(known) >= _rank(entry)):
                continue
            if known is None and len(self._entries) >= MOST:
                self.refused += 1
                continue
            self._entries[entry.key] = entry
            news.append(entry)
        if news:
            coming = [entry for entry in news if not entry.undone]
            for hears in self.heard if coming else ():
                hears(coming)
        return news

    def forget(self, now: float) -> None:
        """Those that no token can concern any more."""
        over = [key for key, entry in self._entries.items() if _over(entry, now)]
        for key in over:
            del self._entries[key]

    def revoked(
        self, user: str, claims: Mapping[str, Any], kid: str, key: str = ""
    ) -> Entry | None:
        """
        The entry by which a verified token is not good, if there is one.

        @param key: the name of the API key, where it is one instead of a token.
        """
        entries = self._entries
        if not entries:
            return None
        jti = claims.get("jti")
        named = jti if isinstance(jti, str) else ""
        for what in ((JTI, named), (USER, user), (KID, kid), (KEY, key)):
            entry = entries.get(what)
            if entry is not None and concerns(entry, user, claims, kid, key):
                return entry
        return None

    @property
    def any(self) -> bool:
        """Whether there is anything to ask about."""
        return bool(self._entries)

    def __iter__(self) -> Any:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)


def concerns(
    entry: Entry, user: str, claims: Mapping[str, Any], kid: str, key: str = ""
) -> bool:
    """Whether a token of that user, with those claims, naming that key, is revoked by it."""
    if entry.undone:
        return False
    if entry.kind == JTI:
        return claims.get("jti") == entry.value
    if entry.kind == KID:
        return kid == entry.value
    if entry.value != (key if entry.kind == KEY else user):
        return False
    issued = claims.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, int | float):
        return True  # nobody knows when: it counts as older
    return not issued >= entry.before


def _over(entry: Entry, now: float) -> bool:
    return entry.until <= now or (entry.undone and entry.at + UNDONE_FOR <= now)


def _rank(entry: Entry) -> tuple[float, bool, str]:
    # Of two words at one moment "revoked" holds, and any other difference has an order.
    return entry.at, not entry.undone, entry.to_json()
