"""Tests for gateway.issuers.fetch and documents: a provider that lies, hangs, floods and redirects, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet import reactor as installed  # noqa: TID251
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.web.server import Site
from zope.interface import directlyProvides, providedBy

from gateway.issuers.documents import DiscoveredKeys, UrlKeys
from gateway.issuers.fetch import Fetched, Fetcher, FetchFailed
from tests.system.issuer import Provider
from tests.system.test_https import certify
from tests.system.tools import WAIT

reactor: Any = installed
ALGORITHMS = ["ES256"]


@pytest.fixture
def provider() -> Iterator[Provider]:
    """One that listens."""
    provider = Provider()
    site = WrappingFactory(Site(provider))
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    provider.iss = f"http://127.0.0.1:{port.getHost().port}"
    yield provider
    pytest_twisted.blockon(port.stopListening())
    # Whatever it did, no connection to it stays: who drips for ever would be listened to for ever.
    deadline = time.monotonic() + WAIT
    while site.protocols:
        assert time.monotonic() < deadline, "a connection stays open"
        pytest_twisted.blockon(deferLater(reactor, 0.001))


def fetcher(**options: Any) -> Fetcher:
    """One that is not patient."""
    return Fetcher(reactor, **{"timeout": 0.3, **options})


async def why(fetch: Deferred[Any]) -> str:
    """Why it failed."""
    with pytest.raises((FetchFailed, ValueError)) as caught:
        await fetch
    return str(caught.value)


@pytest_twisted.ensureDeferred
async def test_good(provider: Provider) -> None:
    """A key set and its life, which is what Cache-Control says."""
    provider.max_age = 120
    found = await UrlKeys(provider.iss + "/jwks", ALGORITHMS, fetcher(timeout=10)).fetch()
    assert found.lifetime == 120.0
    assert found.ring.names("k0")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("redirect", "answered 302: redirects are not followed"), ("error", "answered 500"), ("gzip", "compressed"),
        ("huge", "answered 10000012 bytes; at most 262144"), ("endless", "more than 262144 bytes"), ("cut", "broke off"),
        ("hang", "no whole answer in 0.3 s"), ("slow", "no whole answer in 0.3 s"), ("garbage", "not a key set"), ("empty", "no key that can be used"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_bad(provider: Provider, mode: str, says: str) -> None:
    """A provider that redirects, fails, floods, breaks off, hangs or drips gives no keys, and says why."""
    provider.mode = mode
    patience = 0.3 if "0.3" in says else 10
    assert says in await why(UrlKeys(provider.iss + "/jwks", ALGORITHMS, fetcher(timeout=patience)).fetch())


@pytest_twisted.ensureDeferred
async def test_nobody_there() -> None:
    """A refused connection is a sentence, too."""
    assert "refused" in (await why(fetcher(timeout=10).get("http://127.0.0.1:1/jwks"))).lower()


def discovered(provider: Provider, issuer: str = "") -> DiscoveredKeys:
    """Keys by discovery."""
    url = provider.iss + "/.well-known/openid-configuration"
    return DiscoveredKeys(url, issuer or provider.iss, ALGORITHMS, fetcher(timeout=10), time.monotonic)


@pytest_twisted.ensureDeferred
async def test_discovery(provider: Provider) -> None:
    """The discovery document is asked once, the keys each time; after a failure both."""
    keys = discovered(provider)
    for _ in range(3):
        assert (await keys.fetch()).ring.names("k0")
    assert provider.counts["/.well-known/openid-configuration"] == 1
    assert provider.counts["/jwks"] == 3
    provider.mode = "error"
    await why(keys.fetch())
    provider.mode = "ok"
    await keys.fetch()
    assert provider.counts["/.well-known/openid-configuration"] == 2


@pytest.mark.parametrize(
    ("mode", "says"),
    [("stranger", "another issuer's"), ("inward", "jwks_uri"), ("garbage", "no JSON object"), ("redirect", "discovery: answered 302"), ("empty", "another issuer's")],
)
@pytest_twisted.ensureDeferred
async def test_bad_discovery(provider: Provider, mode: str, says: str) -> None:
    """A document of another issuer, or one that leads to a link-local address, gives no keys."""
    provider.mode = mode
    assert says in await why(discovered(provider).fetch())
    assert provider.counts.get("/jwks") is None


class Resolving:
    """The reactor with a name service that a test speaks for."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.connected: list[str] = []
        directlyProvides(self, providedBy(reactor))

    @property
    def nameResolver(self) -> Any:
        return self

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, **_: Any) -> Any:
        receiver.resolutionBegan(self)
        for address in self._addresses:
            receiver.addressResolved(IPv4Address("TCP", address, portNumber))
        receiver.resolutionComplete()
        return self

    def connectTCP(self, host: str, *args: Any, **named: Any) -> Any:
        self.connected.append(host)
        return reactor.connectTCP(host, *args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


@pytest_twisted.ensureDeferred
async def test_a_name_that_leads_to_the_clouds_metadata() -> None:
    """SSRF: a name whose address is link-local is looked up, and never connected to."""
    there = Resolving("169.254.169.254")
    assert "169.254.169.254, which is never asked" in await why(Fetcher(there, timeout=10).get("https://login.example/keys"))
    assert there.connected == []


@pytest_twisted.ensureDeferred
async def test_localhost_that_is_elsewhere() -> None:
    """SSRF: plain http to a name that claims to be this machine, and is not, is never connected to."""
    there = Resolving("192.0.2.1")
    assert "192.0.2.1, which is never asked" in await why(Fetcher(there, timeout=10).get("http://localhost/keys"))
    assert there.connected == []


@pytest_twisted.ensureDeferred
async def test_certificates_are_verified(provider: Provider, tmp_path: Path) -> None:
    """A server whose certificate nobody vouches for is refused, and accepted when its signer is named."""
    certify(tmp_path, x509.DNSName("localhost"))
    options = DefaultOpenSSLContextFactory(str(tmp_path / "key.pem"), str(tmp_path / "ca.pem"))
    port = reactor.listenSSL(0, Site(provider), options, interface="127.0.0.1")
    url = f"https://localhost:{port.getHost().port}/jwks"
    try:
        assert "certificate" in (await why(fetcher(timeout=10).get(url))).lower()
        found = await fetcher(timeout=10, signers=(tmp_path / "ca.pem").read_bytes()).get(url)
        assert isinstance(found, Fetched)
    finally:
        await port.stopListening()
