"""Tests for gateway.issuers.source: keys kept at hand, through rotations, outages and stampedes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.admission.identity import Identity, IdentityRules, IssuersRules
from gateway.admission.issuers import Issuer, Issuers
from gateway.admission.keysets import Pace
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Unsettled
from gateway.issuers.documents import FileKeys, Keys
from gateway.issuers.fetch import FetchFailed
from gateway.issuers.source import KeySource
from gateway.jwks import key_ring
from gateway.verdicts import Reason, Refused
from tests.system.issuer import Provider, private_key, public_jwk

ISS = "https://a.example"
RULES = IssuersRules({"a": IdentityRules(issuer=ISS)})


class Documents:
    """An issuer that answers when the test says so."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.asked: list[Deferred[Keys]] = []
        self.count = 0

    def fetch(self) -> Deferred[Keys]:
        self.count += 1
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self) -> None:
        """The keys as they are now."""
        ring = key_ring(self.provider.jwks(), ["ES256"])
        self.asked.pop().callback(Keys(ring, None, "test"))

    def fail(self) -> None:
        """None."""
        self.asked.pop().errback(FetchFailed("answered 500"))


class Bench:
    """A source with its issuer, a cache and a clock."""

    def __init__(self, pace: Pace | None = None, known: bool = True) -> None:
        self.clock = Clock()
        self.provider = Provider()
        self.provider.iss = ISS
        self.documents = Documents(self.provider)
        self.source = KeySource("a", self.documents, pace or Pace(), self.clock, self.clock.seconds, lambda: 0.0)
        verifier = Issuers([Issuer("a", ISS, ["ES256"], (), self.source.keys, self.source.ask)], None)
        self.cache = TokenCache(verifier, 1000, 1 << 24)
        self.source.caches.add(self.cache)
        self.source.start()
        if known:
            self.documents.answer()

    def look(self, token: str, waited: float = 0.0) -> Any:
        """The identity, the reason, or the Deferred of those who must wait."""
        found = self.cache.identify(token.encode(), RULES, time.time())
        if isinstance(found, Unsettled):
            found = found.ask(token.encode(), waited)
        return found.reason if isinstance(found, Refused) else found


def stranger(kid: str) -> str:
    """A token of a key that nobody has heard of."""
    return jwt.encode({"iss": ISS, "sub": "x", "exp": 9e9}, STRANGE, "ES256", {"kid": kid})


STRANGE = private_key("ES256")


def test_keys_are_fetched_before_they_are_needed() -> None:
    """At the start, and at four fifths of their life, without any request."""
    bench = Bench()
    assert isinstance(bench.look(bench.provider.token()), Identity)
    bench.clock.advance(2879)
    assert bench.documents.count == 1
    bench.clock.advance(1)
    assert bench.documents.count == 2
    bench.documents.answer()
    bench.clock.advance(2880)
    assert bench.documents.count == 3


def test_row_3_a_stampede_of_unknown_keys() -> None:
    """Row 3 (CVE-2026-48524): 10,000 unknown kids make one fetch, 100 wait for it, the others get 401 at once; known keys work meanwhile."""
    bench = Bench()
    found = [bench.look(stranger(f"x{number}")) for number in range(10_000)]
    assert bench.documents.count == 2
    waiting = [each for each in found if isinstance(each, Deferred)]
    assert len(waiting) == 100
    assert found.count(Reason.SIGNATURE) == 9_900
    assert isinstance(bench.look(bench.provider.token()), Identity)
    bench.documents.answer()
    assert all(each.called for each in waiting)
    again = [bench.look(stranger(f"x{number}"), waited=0.1) for number in range(1000)]
    assert set(again) == {Reason.SIGNATURE}
    bench.clock.advance(9.9)
    assert bench.look(stranger("x")) is Reason.SIGNATURE
    bench.clock.advance(0.1)
    assert isinstance(bench.look(stranger("x")), Deferred)
    assert bench.documents.count == 3


def test_nobody_waits_longer_than_a_second() -> None:
    """While the fetch hangs, who waits is let go after a second, and there is room for others then."""
    bench = Bench(Pace(waiting=1))
    waiting = bench.look(stranger("x"))
    assert bench.look(stranger("y")) is Reason.SIGNATURE
    bench.clock.advance(0.99)
    assert not waiting.called
    bench.clock.advance(0.01)
    assert waiting.called
    assert bench.look(stranger("x"), waited=1.0) is Reason.SIGNATURE
    assert isinstance(bench.look(stranger("y")), Deferred)
    assert bench.documents.count == 2


def test_a_client_that_leaves_frees_its_place() -> None:
    """Who does not wait any longer takes no place, and no timer stays behind."""
    bench = Bench(Pace(waiting=1))
    waiting = bench.look(stranger("x"))
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert bench.source.keys.waiting == 0
    assert isinstance(bench.look(stranger("y")), Deferred)
    bench.documents.answer()
    assert len(bench.clock.getDelayedCalls()) == 1


def test_rotation_without_a_rejected_request() -> None:
    """50 rotations, tokens of the new key at once and of the old one still: nobody is refused, and each costs one fetch."""
    bench = Bench()
    last = bench.provider.token()
    for _ in range(50):
        bench.clock.advance(10)
        bench.provider.rotate()
        fresh = bench.provider.token()
        waiting = [bench.look(fresh) for _ in range(20)]
        assert all(isinstance(each, Deferred) for each in waiting)
        assert isinstance(bench.look(last), Identity)
        bench.documents.answer()
        assert all(each.called for each in waiting)
        assert isinstance(bench.look(fresh), Identity)
        last = fresh
    assert bench.documents.count == 51
    assert bench.source.keys.waiting == 0


def test_row_11_a_key_that_leaves_takes_its_tokens_along() -> None:
    """Row 11: a cached token is refused at once when its key has left the set; those of the keys that stay are not asked again."""
    bench = Bench()
    old = bench.provider.token()
    bench.provider.rotate()
    bench.clock.advance(2880)
    bench.documents.answer()
    new = bench.provider.token()
    first = bench.look(new)
    assert isinstance(bench.look(old), Identity)
    bench.provider.keys.pop()
    bench.clock.advance(2880)
    assert isinstance(bench.look(old), Identity)
    bench.documents.answer()
    assert old.encode() not in bench.cache
    assert isinstance(bench.look(old), Deferred)
    assert bench.look(new) is first


def test_no_key_was_ever_had() -> None:
    """Requests wait for the first fetch; when it has failed they get 503 and are told when to come again."""
    bench = Bench(known=False)
    waiting = bench.look(bench.provider.token())
    assert isinstance(waiting, Deferred)
    bench.documents.fail()
    assert waiting.called
    found = bench.source.ask(b"", 0.0)
    assert isinstance(found, Refused)
    assert (found.reason, found.retry_after) == (Reason.KEYS, 1)
    bench.clock.advance(1)
    assert bench.documents.count == 2
    bench.documents.answer()
    assert isinstance(bench.look(bench.provider.token()), Identity)


def test_an_outage() -> None:
    """While the issuer is away its keys go on, for a day; then 503. When it is back, so are they."""
    bench = Bench()
    token = bench.provider.token()
    bench.clock.advance(2880)
    bench.documents.fail()
    for _ in range(1390):
        bench.clock.advance(60)
        if bench.documents.asked:
            bench.documents.fail()
        assert isinstance(bench.look(token), Identity)
    bench.clock.advance(120)
    bench.documents.fail()
    assert bench.look(token) is Reason.KEYS
    bench.clock.advance(60)
    bench.documents.answer()
    assert isinstance(bench.look(token), Identity)


def test_stop() -> None:
    """A source that has been stopped leaves no timer and no one waiting, and asks nobody again."""
    bench = Bench()
    waiting = bench.look(stranger("x"))
    bench.source.stop()
    assert waiting.called
    assert bench.look(stranger("y")) is Reason.SIGNATURE
    assert not bench.clock.getDelayedCalls()
    assert bench.documents.count == 2


def test_what_breaks_us_is_a_failed_fetch() -> None:
    """An answer that nobody expected is one more failed fetch, tried again later."""
    bench = Bench(known=False)
    bench.documents.asked.pop().callback(None)  # type: ignore[arg-type]
    bench.clock.advance(1)
    assert bench.documents.count == 2


def test_a_file(tmp_path: Path) -> None:
    """Keys in a file are there at once, and a new file's a minute later."""
    path = tmp_path / "keys.json"
    provider = Provider()
    path.write_bytes(provider.jwks())
    clock = Clock()
    source = KeySource("a", FileKeys(str(path), ["ES256"]), Pace(), clock, clock.seconds)
    source.start()
    assert source.keys.ring is not None
    assert source.keys.ring.names("k0")
    path.write_text(json.dumps({"keys": [public_jwk(STRANGE, "ES256", kid="new")]}))
    clock.advance(60)
    assert source.keys.ring.names("new")
    assert not source.keys.ring.names("k0")
    path.unlink()
    clock.advance(60)
    assert source.keys.ring.names("new")
    source.stop()
