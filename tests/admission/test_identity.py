"""Tests for gateway.admission.identity: whom a verified token names."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.identity import Identity, IdentityRules, field_text
from gateway.admission.tokens import VerifiedToken
from gateway.verdicts import Reason, Refused


def identify(rules: IdentityRules | None = None, now: float = 1000.0, **claims: object) -> Identity | Reason:
    """The identity, or why not; with exp and sub unless told otherwise."""
    given = {"sub": "alice", "exp": 2000, **claims}
    given = {name: value for name, value in given.items() if value is not ...}
    token = VerifiedToken(given, given.get("exp"), given.get("nbf"), 100)  # type: ignore[arg-type]
    found = (rules or IdentityRules()).identify(token, now)
    return found.reason if isinstance(found, Refused) else found


def test_exp() -> None:
    """A token is expired in the second its exp names, not before; without exp it is refused."""
    assert isinstance(identify(now=1999.9), Identity)
    assert identify(now=2000.0) is Reason.EXPIRED
    assert identify(exp=...) is Reason.TOKEN
    found = identify(IdentityRules(require_exp=False), exp=...)
    assert isinstance(found, Identity)
    assert found.expires == float("inf")


def test_leeway() -> None:
    """Clocks may differ by the leeway, both ways."""
    rules = IdentityRules(leeway=5.0)
    assert isinstance(identify(rules, now=2004.9), Identity)
    assert identify(rules, now=2005.0) is Reason.EXPIRED
    assert isinstance(identify(rules, now=995.0, nbf=1000), Identity)
    assert identify(rules, now=994.9, nbf=1000) is Reason.TOKEN


def test_expiry_comes_first() -> None:
    """A token that is expired and meant for others is told it is expired."""
    assert identify(IdentityRules(issuer="a"), now=3000, iss="b") is Reason.EXPIRED


@pytest.mark.parametrize("value", ["https://a", "https://a.examplex", "x", "", None, ["https://a.example"], 1])
def test_row_2_issuer(value: object) -> None:
    """Row 2 (GHSA-75c5-xw7c-p5pm): the issuer is compared by equality, never by containing."""
    assert identify(IdentityRules(issuer="https://a.example"), iss=value) is Reason.TOKEN


def test_several_audiences() -> None:
    """One of several audiences is enough, exactly; what is no text is none."""
    rules = IdentityRules(audience=["api", "web"])
    for good in ("api", "web", ["x", "web"]):
        assert isinstance(identify(rules, aud=good), Identity)
    for bad in ("x", ["x"], [["api"]], [None], 7, "apiweb", "api, web"):
        assert identify(rules, aud=bad) is Reason.TOKEN


def test_audience() -> None:
    """The audience equals, or a list holds, exactly what is asked for; unasked it is not looked at."""
    rules = IdentityRules(audience="api")
    assert isinstance(identify(rules, aud="api"), Identity)
    assert isinstance(identify(rules, aud=["x", "api"]), Identity)
    for value in ("apis", "ap", ["apis"], [], None, {"api": 1}, ...):
        assert identify(rules, aud=value) is Reason.TOKEN
    assert isinstance(identify(aud="whoever"), Identity)


@pytest.mark.parametrize(
    "sub",
    [..., None, "", " a", "a ", "a\nb", "a\x00", "\x7f", "\x85", "a\u2028b", "\ud800", 7, True, [], {}, "a@b@c", "x" * 513, "é" * 100],
)
def test_nobody(sub: object) -> None:
    """The original made such a subject the user "undefined", or a 500; here it is refused."""
    assert identify(sub=sub) is Reason.TOKEN


def test_roles() -> None:
    """A missing, null or empty role is the default; another type is refused."""
    for role in (..., None, ""):
        found = identify(role=role)
        assert isinstance(found, Identity)
        assert (found.role, found.headers) == ("user", b"X-User-ID: alice\r\nX-User-Role: user\r\n")
    for wrong in (7, True, ["admin"], {"a": 1}, "a\r\nX: y"):
        assert identify(role=wrong) is Reason.TOKEN
    found = identify(IdentityRules(role_claim="realm.role"), realm={"role": "boss"})
    assert isinstance(found, Identity)
    assert found.role == "boss"


@given(st.text(max_size=40))
def test_encoding_is_injective(name: str) -> None:
    """A name's header value is visible ASCII without comma and decodes to that very name."""
    sent = field_text(name)
    if sent is not None:
        assert all(0x21 <= octet <= 0x7E and octet != 0x2C for octet in sent)
        assert unquote(sent.decode("ascii"), errors="strict") == name


def test_limit_keys_never_collide() -> None:
    """Keys of different claims, or of values of different types, are different keys."""
    found = identify(tenant="1", number=1, yes=True, **{"a:str": "x", "a": "str:x"})
    assert isinstance(found, Identity)
    keys = [found.limit_key(name) for name in ("sub", "tenant", "number", "yes", "a:str", "a")]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert found.limit_key("missing") is None
    other = identify(sub="x", tenant=["a"])
    assert isinstance(other, Identity)
    assert other.limit_key("tenant") is None
