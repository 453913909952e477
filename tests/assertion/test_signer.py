"""What an upstream is told, signed."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import jwt
import pytest

from gateway.admission.identity import Identity, IdentityRules
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Verifier
from gateway.assertion.keys import generate, signing_keys
from gateway.assertion.signer import Assertion
from gateway.keys import hmac_key

KEY = signing_keys(generate())[0]
NOW = 1_700_000_000.25
SECRET = "s" * 40
RULES = IdentityRules()


def assertion(binds: bool = False, route: str = "/orders", lifetime: float = 60.0) -> Assertion:
    """For one route."""
    return Assertion(KEY, "fra1", "https://orders.internal", route, lifetime, binds)


KNOWN = [assertion(route=f"/api/v1/route{number}") for number in range(4)]


def identity(expires: float = float("inf"), **claims: Any) -> Identity:
    """Somebody."""
    return Identity("ann\u00e9", "admin", b"", claims, 0.0, expires)


def line(of: Assertion, who: Identity, now: float = NOW, request: bytes = b"1") -> bytes:
    """The field's line."""
    return of.line(who, now, b"GET", b"/7?q=%20", request)


def told(line: bytes) -> dict[str, Any]:
    """What a service reads: verified with the public key, its type, issuer and audience."""
    name, _, value = line.partition(b": ")
    assert (name, line[-2:]) == (b"X-Gateway-Assertion", b"\r\n")
    token = value.strip()
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "ES256", "kid": KEY.kid, "typ": "gateway-assertion+jwt"}
    found: dict[str, Any] = jwt.decode(
        token, jwt.PyJWK(KEY.jwk), algorithms=["ES256"], audience="https://orders.internal", issuer="fra1",
        options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip
    return found


def test_who_calls() -> None:
    """User, role, scopes and route, for that upstream, for a minute."""
    found = told(line(assertion(), identity(scope="read write")))
    assert len(found.pop("jti")) >= 16
    assert found == {
        "iss": "fra1", "sub": "ann\u00e9", "aud": "https://orders.internal", "iat": 1_700_000_000,
        "exp": 1_700_000_061, "role": "admin", "scope": "read write", "route": "/orders",
    }  # fmt: skip
    assert told(line(assertion(), identity(scp=["a", 7, "b"])))["scope"] == "a b"
    assert told(line(assertion(), identity()))["scope"] == ""


def test_kept_for_half_its_life() -> None:
    """The same line for half a minute, then another one, which is always good for another half minute at least."""
    one, who = assertion(), identity()
    first = line(one, who)
    assert line(one, who, NOW + 29.9, b"2") is first
    second = line(one, who, NOW + 30)
    assert second != first
    assert told(second)["exp"] - (NOW + 59.9) >= 30
    assert line(one, who, NOW - 1) not in (first, second)  # the clock went back


def test_never_longer_than_the_token() -> None:
    """A token that ends in ten seconds is asserted for ten seconds, and asked again after five."""
    one, who = assertion(), identity(expires=NOW + 10)
    first = line(one, who)
    assert told(first)["exp"] == 1_700_000_011
    assert line(one, who, NOW + 4.9) is first
    assert line(one, who, NOW + 5.1) is not first


def test_users_and_routes_do_not_share() -> None:
    """Neither another user's nor another route's assertion is ever given."""
    one, other, ann, bob = assertion(), assertion(route="/users"), identity(), identity()
    assert len({line(a, who) for a in (one, other) for who in (ann, bob)}) == 4
    assert told(line(other, ann))["route"] == "/users"


def test_what_is_kept_is_bounded() -> None:
    """However many routes a user goes to, a handful of assertions is kept."""
    who = identity()
    for number in range(100):
        line(assertion(route=f"/{number}"), who)
        assert who.asserted is not None
        assert len(who.asserted) <= 4


def test_a_request_is_bound() -> None:
    """Method, path and identifier are told too, and signed anew for each request."""
    one, who = assertion(binds=True), identity()
    first, second = line(one, who, request=b"id-1"), line(one, who, request=b"id-2")
    found = told(first)
    assert (found["method"], found["path"], found["request_id"]) == ("GET", "/7?q=%20", "id-1")
    assert told(second)["request_id"] == "id-2"
    assert who.asserted is None
    assert found["jti"] != told(second)["jti"]


@pytest.mark.parametrize("scopes", [0, 10, 150])
def test_the_size_of_what_is_kept(scopes: int) -> None:
    """What the cache of tokens counts for assertions is never less than they take."""
    claims = {"sub": "u" * 100, "role": "r" * 64, "exp": 4e9, "scope": "scope:read " * scopes}
    raw = jwt.encode(claims, SECRET, "HS256").encode()
    for copies in (1, 2, 4):
        cache = TokenCache(Verifier(hmac_key(SECRET.encode(), ["HS256"])), 10, 1 << 20)
        who = cache.identify(raw, RULES, NOW)
        assert isinstance(who, Identity)
        plain, cache.copies = cache.used, copies
        cache.forget(lambda _: True)
        who = cache.identify(raw, RULES, NOW)
        assert isinstance(who, Identity)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(copies):
            line(KNOWN[number], who)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert 0 < taken <= cache.used - plain
        cache.forget(lambda _: True)
        assert cache.used == 0


@pytest.mark.parametrize("user", ['a"b', "a\\b", "\u2603", "a,b"])
def test_any_name_is_told_as_it_is(user: str) -> None:
    """Names travel in JSON, and can't break out of it."""
    who = Identity(user, "r", b"", {}, 0.0, float("inf"))
    assert told(line(assertion(), who))["sub"] == user
