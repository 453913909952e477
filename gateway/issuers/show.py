# -*- test-case-name: tests.issuers.test_show -*-
"""
C{gateway keys --fetch}: fetches every issuer's keys as the daemon would, and says what it found.

Lets nothing in and changes nothing: the daemon's own keys are what it has posted
(L{gateway.issuers.telling}).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from gateway.admission.keysets import KeySet, Pace
from gateway.issuers.command import key_lines
from gateway.issuers.documents import Keys
from gateway.issuers.sources import documents
from gateway.settings import IssuerSettings, Settings
from gateway.settings.option import spelled


def look(settings: Settings, reactor: Any) -> Deferred[list[dict[str, Any]]]:
    """What each issuer publishes now, in the order of the file."""
    return gatherResults(
        [Deferred.fromCoroutine(_one(issuer, reactor)) for issuer in settings.issuers]
    )


async def _one(issuer: IssuerSettings, reactor: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": issuer.name, "issuer": issuer.issuer, "source": issuer.source}
    begun = reactor.seconds()
    try:
        keys: Keys = await documents(issuer, reactor, reactor.seconds).fetch()
    except Exception as error:
        return {**found, "problem": str(error) or type(error).__name__}
    # The very arithmetic of the daemon says when it would ask again.
    known = KeySet(Pace(issuer.refresh_min, issuer.refresh_max))
    known.succeeded(keys.ring, keys.lifetime, 0.0, 0.0)
    return {
        **found,
        "source": keys.source,
        "fetched_in": round(reactor.seconds() - begun, 3),
        "lifetime": keys.lifetime,
        "next_refresh_in": known.due,
        "keys": [
            {"kid": key.kid, "algorithms": list(key.key.algorithms)} for key in keys.ring.keys
        ],
        "not_used": list(keys.ring.problems),
    }


def told(found: list[dict[str, Any]]) -> Iterator[str]:
    """The same for people."""
    for each in found:
        yield f"{each['name']}  {each['issuer']}"
        yield f"  source    {each['source']}"
        if "problem" in each:
            yield f"  PROBLEM   {each['problem']}"
            continue
        yield f"  age       0s, fetched in {each['fetched_in'] * 1000:.0f} ms"
        says = "says nothing" if each["lifetime"] is None else f"says {each['lifetime']:g} s"
        again = spelled(round(each["next_refresh_in"]))
        yield f"  refresh   within {again}; the issuer {says}"
        yield from key_lines(each)
