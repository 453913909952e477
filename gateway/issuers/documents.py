# -*- test-case-name: tests.issuers.test_fetch -*-
"""
Where an issuer's keys are: a file, a URL, or what the issuer's discovery document names.

Lets a key set in that is one (L{gateway.jwks}); refuses a discovery document of somebody
else (OpenID Connect Discovery section 4.3), and one that leads from https to http.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from gateway.issuers.fetch import Fetched, Fetcher, FetchFailed
from gateway.jose import json_object
from gateway.jwks import MAX_DOCUMENT, KeyRing, key_ring
from gateway.urls import safe_url

#: Seconds between two looks at a file.
FILE_LIFETIME = 60.0

#: Seconds for which a discovery document is believed.
DISCOVERY_LIFETIME = 86400.0


@dataclass(frozen=True, slots=True)
class Keys:
    """
    @ivar lifetime: seconds, or C{None}.
    @ivar source: where they were.
    """

    ring: KeyRing
    lifetime: float | None
    source: str


class FileKeys:
    """Keys in a file, looked at every minute."""

    def __init__(self, path: str, algorithms: Sequence[str]) -> None:
        self._path = path
        self._algorithms = algorithms

    def fetch(self) -> Deferred[Keys]:
        """Read it; fails with C{ValueError} or C{OSError}."""
        return maybeDeferred(self.read)

    def read(self) -> Keys:
        """The same at once."""
        with Path(self._path).open("rb") as file:
            document = file.read(MAX_DOCUMENT + 1)
        return Keys(key_ring(document, self._algorithms), FILE_LIFETIME, self._path)


class UrlKeys:
    """Keys at a URL."""

    def __init__(self, url: str, algorithms: Sequence[str], fetcher: Fetcher) -> None:
        self._url = url
        self._algorithms = algorithms
        self._fetcher = fetcher

    def fetch(self) -> Deferred[Keys]:
        """Fetch them; fails with L{FetchFailed} or C{ValueError}."""
        return self._fetcher.get(self._url).addCallback(self._read)

    def _read(self, found: Fetched) -> Keys:
        return Keys(key_ring(found.body, self._algorithms), found.lifetime, self._url)


class DiscoveredKeys:
    """
    Keys where the issuer's discovery document says.

    @param issuer: what the document must call it, exactly.
    """

    def __init__(
        self, url: str, issuer: str, algorithms: Sequence[str], fetcher: Fetcher,
        seconds: Callable[[], float],
    ) -> None:  # fmt: skip
        self._url = url
        self._issuer = issuer
        self._algorithms = algorithms
        self._fetcher = fetcher
        self._seconds = seconds
        self._keys: UrlKeys | None = None
        self._until = 0.0

    def fetch(self) -> Deferred[Keys]:
        """Discover where they are, unless known lately, and fetch them."""
        return Deferred.fromCoroutine(self._both())

    async def _both(self) -> Keys:
        if self._keys is None or self._seconds() >= self._until:
            try:
                found = await self._fetcher.get(self._url)
            except FetchFailed as error:
                raise FetchFailed(f"discovery: {error}") from None
            address = self._address(json_object(found.body))
            self._keys = UrlKeys(address, self._algorithms, self._fetcher)
            self._until = self._seconds() + DISCOVERY_LIFETIME
        try:
            return await self._keys.fetch()
        except Exception:
            self._keys = None  # it may have moved
            raise

    def _address(self, document: dict[str, Any] | None) -> str:
        if document is None:
            raise FetchFailed("discovery: no JSON object, or one with a member named twice")
        if document.get("issuer") != self._issuer:
            raise FetchFailed("discovery: the document is another issuer's")
        address = document.get("jwks_uri")
        try:
            # What came over https must not lead to whatever listens on this machine in the clear.
            safe_url(address if isinstance(address, str) else "", self._url.startswith("https:"))
        except ValueError as error:
            raise FetchFailed(f"discovery: jwks_uri: expected {error}") from None
        return str(address)
