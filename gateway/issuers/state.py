# -*- test-case-name: tests.system.test_keys -*-
"""
What a serving process knows of the keys by which it lets anybody in: plain values for
C{gateway keys}. Lets names, addresses and times out; never a key, a secret or a token.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from gateway.issuers.source import KeySource
from gateway.settings import IssuerSettings, JwtSettings


class LocalKey:
    """
    Since when the key of [jwt] is what it is.

    @ivar generation: how many there have been in this process.
    """

    def __init__(self) -> None:
        self._meaning: Hashable = None
        self.generation = 0
        self.since = 0.0

    def look(self, jwt: JwtSettings, now: float) -> None:
        """The settings that hold now; C{now} is unix seconds."""
        meaning = jwt.algorithms, jwt.secret, jwt.public_key
        if meaning != self._meaning:
            self._meaning = meaning
            self.generation += 1
            self.since = now

    def state(self, jwt: JwtSettings) -> dict[str, Any]:
        """What there is to say of it."""
        return {
            "set": "jwt",
            "kind": "secret" if jwt.secret is not None else "public key",
            "source": jwt.key_file,
            "algorithms": list(jwt.algorithms),
            "since": self.since,
            "generation": self.generation,
        }


def mark(source: KeySource) -> Hashable:
    """Another one whenever there is something new to say of an issuer's keys."""
    keys = source.keys
    return (
        id(source), id(keys.ring), keys.fetched, keys.due, keys.fetching, keys.failures,
        keys.asks_again, source.last_error,
    )  # fmt: skip


def state(
    issuer: IssuerSettings, source: KeySource, wall: Callable[[float], float], now: float
) -> dict[str, Any]:
    """
    What there is to say of an issuer's keys.

    @param wall: makes unix seconds of monotonic ones.
    @param now: monotonic seconds.
    """
    keys = source.keys
    ring, error = keys.ring, source.last_error
    again = keys.asks_again
    return {
        "set": "issuer",
        "name": issuer.name,
        "issuer": issuer.issuer,
        "source": source.where or issuer.source,
        "state": "none" if ring is None else "kept" if keys.failures else "fresh",
        "keys": [
            {"kid": key.kid, "algorithms": list(key.key.algorithms)}
            for key in (ring.keys if ring is not None else ())
        ],
        "not_used": list(ring.problems) if ring is not None else [],
        "fetched": wall(keys.fetched) if ring is not None else None,
        "fetching": keys.fetching,
        "next_refresh": None if keys.fetching else wall(keys.due),
        "kept_until": wall(keys.fetched + keys.pace.keep) if ring is not None else None,
        "failures": keys.failures,
        "last_error": {"at": wall(error[0]), "says": error[1]} if error is not None else None,
        "unknown_kids_wait_until": wall(again) if again > now else None,
    }
