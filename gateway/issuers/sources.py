# -*- test-case-name: tests.issuers.test_sources -*-
"""
Who vouches for tokens in one configuration, besides the local key: the issuers' key sets and
the server that is asked about opaque tokens.

Lets what means the same as in the configuration before go on, with all it knows: a reload
looks at its keys again in the background, and loses none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.admission.issuers import Issuer, Issuers
from gateway.admission.keysets import Pace
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import INVALID, IVerifier, Verifier
from gateway.issuers.documents import DiscoveredKeys, FileKeys, UrlKeys
from gateway.issuers.fetch import Fetcher
from gateway.issuers.introspector import Introspector, introspector
from gateway.issuers.source import IDocuments, KeySource
from gateway.keys import VerificationKey
from gateway.settings import IntrospectionSettings, IssuerSettings, Settings
from gateway.settings.sections import ASKED


class Nobody:
    """Refuses every token."""

    def verify(self, raw: bytes, now: float = 0.0) -> Any:
        """No key, no token."""
        return INVALID


class Sources:
    """
    @param seconds: monotonic seconds.
    @param now: the wall clock, unix seconds.
    @param before: those of the configuration before.
    """

    def __init__(
        self, settings: Settings, reactor: Any, seconds: Callable[[], float],
        now: Callable[[], float], before: Sources | None = None,
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._seconds = seconds
        self._now = now
        self._before = before
        self.running: bool = before.running if before is not None else False
        self.issuers = {issuer: self._source(issuer) for issuer in settings.issuers}
        self._asked = settings.introspection
        self.asked = self._introspector(settings.introspection)

    def _source(self, issuer: IssuerSettings) -> KeySource:
        if self._before is not None and issuer in self._before.issuers:
            return self._before.issuers[issuer]
        pace = Pace(
            issuer.refresh_min, issuer.refresh_max, issuer.refresh_unknown, issuer.keep,
            issuer.waiting, issuer.patience,
        )  # fmt: skip
        found = documents(issuer, self._reactor, self._seconds)
        return KeySource(issuer.name, found, pace, self._reactor, self._seconds)

    def _introspector(self, settings: IntrospectionSettings | None) -> Introspector | None:
        if self._before is not None and settings == self._before._asked:
            return self._before.asked
        if settings is None:
            return None
        return introspector(ASKED, settings, self._reactor, self._seconds, self._now)

    def verifier(self, local: VerificationKey | None) -> IVerifier:
        """Who verifies tokens; the local key alone where there is nobody else."""
        own = Verifier(local) if local is not None else None
        if not self.issuers and self.asked is None:
            return own or Nobody()
        return Issuers(
            [
                Issuer(each.name, each.issuer, each.algorithms, each.token_types, source.keys,
                       source.ask)
                for each, source in self.issuers.items()
            ],
            own,
            self.asked.known if self.asked is not None else None,
        )  # fmt: skip

    def watch(self, cache: TokenCache) -> None:
        """Have tokens in the cache forgotten when their key goes."""
        for source in self.issuers.values():
            source.caches.add(cache)

    def hold(self) -> None:
        """These serve from now on; those that are not among them end."""
        before, self._before = self._before, None
        if before is not None:
            for source in set(before.issuers.values()) - set(self.issuers.values()):
                source.stop()
            if before.asked is not None and before.asked is not self.asked:
                before.asked.stop()
        if self.running:
            for source in self.issuers.values():
                source.refresh()
            self.start()

    def start(self) -> None:
        """Begin to fetch, those that have not begun."""
        self.running = True
        for source in self.issuers.values():
            source.start()
        if self.asked is not None:
            self.asked.start()

    def stop(self) -> None:
        """End all that is under way."""
        self.running = False
        for source in self.issuers.values():
            source.stop()
        if self.asked is not None:
            self.asked.stop()


def documents(issuer: IssuerSettings, reactor: Any, seconds: Callable[[], float]) -> IDocuments:
    """Where an issuer's keys come from."""
    if issuer.file:
        return FileKeys(issuer.file, issuer.algorithms)
    fetcher = Fetcher(reactor, issuer.signers, issuer.fetch_timeout)
    if issuer.jwks:
        return UrlKeys(issuer.jwks, issuer.algorithms, fetcher)
    return DiscoveredKeys(
        issuer.discovery, issuer.issuer, issuer.algorithms, fetcher, seconds
    )
