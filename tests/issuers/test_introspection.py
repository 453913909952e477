"""Tests for gateway.admission.introspection and gateway.issuers.introspector: opaque tokens (RFC 7662)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gateway.admission.identity import Identity, IdentityRules, IssuersRules
from gateway.admission.issuers import Issuers
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Unsettled, VerifiedToken
from gateway.issuers.fetch import Fetched, FetchFailed
from gateway.issuers.introspector import Introspector
from gateway.settings import parse
from gateway.verdicts import Reason, Refused

INI = """
[introspection]
url = https://server.example.com/introspect
client_id = gate way
client_secret = se:cret
cache_for = 60s
refused_for = 5s
cache = 100
pending = 3
failures = 2
reset_after = 10s
[route /a]
upstream = http://127.0.0.1:1
"""

#: RFC 7662 section 2.2, the example answer, its exp and iat as they stand there.
RFC_7662 = b"""{
  "active": true,
  "client_id": "l238j323ds-23ij4",
  "username": "jdoe",
  "scope": "read write dolphin",
  "sub": "Z5O3upPC88QrAjx00dis",
  "aud": "https://protected.example.net/resource",
  "iss": "https://server.example.com/",
  "exp": 1419356238,
  "iat": 1419350238,
  "extension_field": "twenty-seven"
}"""
RULES = IssuersRules(
    {"introspection": IdentityRules(issuer="https://server.example.com/", audience="https://protected.example.net/resource", require_exp=False)}
)


class Bench:
    """An introspector whose server answers when the test says so."""

    def __init__(self, ini: str = INI) -> None:
        self.now = 1419350300.0
        self.asked: list[tuple[Any, Deferred[Fetched]]] = []
        settings = parse(ini, {}).introspection
        assert settings is not None
        self.introspector = Introspector("introspection", settings, self, lambda: self.now, lambda: self.now)
        self.cache = TokenCache(Issuers([], None, self.introspector.known), 100, 1 << 20)

    def post(self, url: str, fields: Any, headers: Any) -> Deferred[Fetched]:
        self.asked.append(((url, fields, headers), Deferred()))
        return self.asked[-1][1]

    def close(self) -> None:
        """Nothing is open."""

    def answer(self, **said: object) -> None:
        """The server says that of the token it was asked about first."""
        self.asked.pop(0)[1].callback(Fetched(json.dumps(said).encode(), None))

    def fail(self) -> None:
        """It does not answer."""
        self.asked.pop(0)[1].errback(FetchFailed("answered 500"))

    def look(self, raw: bytes) -> Any:
        """The user, the reason, or the Deferred of those who must wait."""
        found = self.cache.identify(raw, RULES, self.now)
        if isinstance(found, Unsettled):
            found = found.ask(raw, 0.0)
        if isinstance(found, Refused):
            return found.reason
        return found.user if isinstance(found, Identity) else found


ACTIVE = {name: value for name, value in json.loads(RFC_7662).items() if name != "exp"}


def test_rfc_7662_section_2() -> None:
    """The RFC's own request and answer: a form with the token, credentials by HTTP Basic, each half encoded; and who that is."""
    bench = Bench()
    waiting = bench.look(b"2YotnFZFEjr1zCsicMWpAA")
    assert isinstance(waiting, Deferred)
    (url, fields, headers), asked = bench.asked.pop()
    assert url == "https://server.example.com/introspect"
    assert fields == {"token": "2YotnFZFEjr1zCsicMWpAA", "token_type_hint": "access_token"}
    assert headers == {"Authorization": "Basic Z2F0ZSt3YXk6c2UlM0FjcmV0"}
    asked.callback(Fetched(RFC_7662, None))
    assert waiting.called
    assert bench.look(b"2YotnFZFEjr1zCsicMWpAA") == "Z5O3upPC88QrAjx00dis"
    assert not bench.asked


def test_rfc_7662_inactive() -> None:
    """The RFC's answer about an unknown token: 401, remembered briefly."""
    bench = Bench()
    bench.look(b"t")
    bench.answer(active=False)
    bench.now += 4.9
    assert bench.look(b"t") is Reason.TOKEN
    bench.now += 0.1
    assert isinstance(bench.look(b"t"), Deferred)


def test_until_when_an_answer_holds() -> None:
    """A good answer holds until the token's own expiry, or a minute; then the server is asked again."""
    bench = Bench()
    bench.look(b"short")
    bench.answer(**ACTIVE, exp=bench.now + 10)
    bench.look(b"long")
    bench.answer(**ACTIVE, exp=bench.now + 1000)
    bench.look(b"unsaid")
    bench.answer(**ACTIVE)
    bench.now += 9.9
    assert {bench.look(raw) for raw in (b"short", b"long", b"unsaid")} == {ACTIVE["sub"]}
    bench.now += 0.1
    assert isinstance(bench.look(b"short"), Deferred)
    bench.now += 49.9
    assert bench.look(b"long") == bench.look(b"unsaid") == ACTIVE["sub"]
    bench.now += 0.1
    assert isinstance(bench.look(b"long"), Deferred)
    assert isinstance(bench.look(b"unsaid"), Deferred)


def test_one_question_for_one_token() -> None:
    """Requests with one token share one question; who leaves disturbs nobody."""
    bench = Bench()
    waiting = [bench.look(b"t") for _ in range(50)]
    assert len(bench.asked) == 1
    waiting[3].addErrback(lambda _: None)
    waiting[3].cancel()
    bench.answer(**ACTIVE)
    assert all(each.called for each in waiting)
    assert bench.look(b"t") == ACTIVE["sub"]


def test_pending_is_bounded() -> None:
    """So many tokens may be asked about at once; more get 503 at once."""
    bench = Bench()
    for number in range(3):
        assert isinstance(bench.look(b"t%d" % number), Deferred)
    assert bench.look(b"t3") is Reason.INTROSPECTION
    bench.answer(**ACTIVE)
    assert isinstance(bench.look(b"t3"), Deferred)


def test_the_cache_is_bounded() -> None:
    """No more answers are kept than the file says."""
    bench = Bench()
    for number in range(500):
        bench.look(b"t%d" % number)
        bench.answer(active=False)
    assert len(bench.introspector.known) == 100


def test_a_server_that_fails() -> None:
    """503 while it does not answer; after two failures nobody is asked for 10 s, then one question is the trial."""
    bench = Bench()
    first = bench.look(b"a")
    bench.fail()
    assert first.called
    assert bench.look(b"a") is Reason.INTROSPECTION
    bench.look(b"b")
    bench.fail()
    assert bench.look(b"c") is Reason.INTROSPECTION
    assert not bench.asked
    bench.now += 10
    assert isinstance(bench.look(b"c"), Deferred)
    assert bench.look(b"d") is Reason.INTROSPECTION
    bench.answer(**ACTIVE)
    assert isinstance(bench.look(b"d"), Deferred)


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"active": "true"}', b'{"active": 1}', b'{"active": true, "active": true}', b"\xff"])
def test_what_is_no_answer(document: bytes) -> None:
    """What is no answer of RFC 7662 is a failure, not a verdict: 503."""
    bench = Bench()
    bench.look(b"t")
    bench.asked.pop()[1].callback(Fetched(document, None))
    assert bench.look(b"t") is Reason.INTROSPECTION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": 1}, Reason.EXPIRED), ({"exp": "soon"}, Reason.TOKEN), ({"nbf": True}, Reason.TOKEN), ({"nbf": 9e9}, Reason.TOKEN),
        ({"sub": None}, Reason.TOKEN), ({"iss": "https://other"}, Reason.TOKEN), ({"aud": "other"}, Reason.TOKEN),
        ({"token_type": "DPoP"}, Reason.TOKEN), ({"token_type": 7}, Reason.TOKEN), ({"active": False}, Reason.TOKEN),
        ({"token_use": "refresh_token"}, Reason.TOKEN), ({"token_use": ["access"]}, Reason.TOKEN),
    ],
)  # fmt: skip
def test_active_but_not_here(change: dict[str, object], reason: Reason) -> None:
    """A token that is active and expired, of another issuer, for another service, or bound to a proof, or a refresh token, is refused."""
    bench = Bench()
    bench.look(b"t")
    bench.answer(**{**ACTIVE, **change})
    assert bench.look(b"t") is reason


@pytest.mark.parametrize("raw", [b"", b" t", b"t t", b"t\xff", b"=t", b"x" * 4097, b'"t"', b"t;u"])
def test_never_asked_about(raw: bytes) -> None:
    """What is no token by its shape, or too long, is refused without a question."""
    assert Bench().look(raw) is Reason.TOKEN


def test_stop() -> None:
    """When the gateway stops, who waits is let go."""
    bench = Bench()
    waiting = bench.look(b"t")
    bench.introspector.stop()
    assert waiting.called


def test_secrets_never_show() -> None:
    """Neither the settings nor the introspector show the client's secret."""
    settings = parse(INI, {}).introspection
    assert "se:cret" not in repr(settings)


def test_jwts() -> None:
    """A JWT of nobody known is asked about where there is no local key; the local key judges it alone where there is one."""
    raw = b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln"
    assert isinstance(Bench().look(raw), Deferred)

    class Local:
        def verify(self, raw: bytes, now: float = 0.0) -> VerifiedToken | Refused:
            return Refused(Reason.SIGNATURE)

    bench = Bench()
    both = Issuers([], Local(), bench.introspector.known)
    assert isinstance(both.verify(raw), Refused)
    assert isinstance(both.verify(b"opaque"), Unsettled)
