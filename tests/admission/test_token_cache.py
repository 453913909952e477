"""Tests for gateway.admission.token_cache: fast, and never somebody else's identity."""

from __future__ import annotations

import jwt
import pytest

from gateway.admission.identity import Identity, IdentityRules
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import VerifiedToken, Verifier
from gateway.keys import hmac_key
from gateway.verdicts import Reason, Refused

SECRET = b"s" * 32
RULES = IdentityRules()


class Counting(Verifier):
    """A verifier that counts its work."""

    verified = 0

    def verify(self, raw: bytes, now: float = 0.0) -> VerifiedToken | Refused:
        self.verified += 1
        return super().verify(raw, now)


def made(sub: str = "alice", secret: bytes = SECRET, **claims: object) -> bytes:
    """A token."""
    return jwt.encode({"sub": sub, "exp": 2000, **claims}, secret, "HS256").encode()


def cache(entries: int = 10, size: int = 1 << 20) -> tuple[TokenCache, Counting]:
    """A cache and its verifier."""
    verifier = Counting(hmac_key(SECRET, ["HS256"]))
    return TokenCache(verifier, entries, size), verifier


def test_a_hit_costs_no_signature() -> None:
    """The second time a token is known; it is the same identity."""
    tokens, verifier = cache()
    first = tokens.identify(made(), RULES, 1000)
    assert tokens.identify(made(), RULES, 1000) is first
    assert verifier.verified == 1


def test_what_is_known() -> None:
    """A token is known once it was found good, whatever route asks, until it is forgotten."""
    tokens, _ = cache()
    assert made() not in tokens
    tokens.identify(made()[:-4] + b"AAAA", RULES, 1000)
    assert made()[:-4] + b"AAAA" not in tokens
    tokens.identify(made(), RULES, 1000)
    assert made() in tokens
    tokens.identify(made(), RULES, 2000)
    assert made() not in tokens


def test_row_11_expiry_is_checked_at_each_hit() -> None:
    """Row 11 (CVE-2026-40942): a cached token is refused in the second its exp names, and forgotten."""
    tokens, _ = cache()
    assert isinstance(tokens.identify(made(), RULES, 1999.9), Identity)
    found = tokens.identify(made(), RULES, 2000.0)
    assert isinstance(found, Refused)
    assert found.reason is Reason.EXPIRED
    assert (len(tokens), tokens.used) == (0, 0)


def test_row_11_not_before_is_checked_at_each_hit() -> None:
    """Row 11: a clock that goes back before nbf makes a cached token invalid again."""
    tokens, _ = cache()
    raw = made(nbf=1000)
    assert isinstance(tokens.identify(raw, RULES, 1000), Identity)
    assert isinstance(tokens.identify(raw, RULES, 999), Refused)


def test_row_11_the_last_byte_counts() -> None:
    """Row 11 (GHSA-rp9m-7r4c-75qg): tokens that differ in the last byte never share an entry."""
    tokens, _ = cache()
    raw = made()
    assert isinstance(tokens.identify(raw, RULES, 1000), Identity)
    for other in b"AZaz09-_":
        twin = raw[:-1] + bytes((other,))
        if twin != raw:
            assert isinstance(tokens.identify(twin, RULES, 1000), Refused)
    assert len(tokens) == 1


def test_row_11_new_keys_forget_everything() -> None:
    """Row 11: a token of the old key is refused as soon as the key is replaced."""
    tokens, _ = cache()
    tokens.identify(made(), RULES, 1000)
    tokens.replace(Verifier(hmac_key(b"n" * 32, ["HS256"])))
    assert isinstance(tokens.identify(made(), RULES, 1000), Refused)


def test_rules_do_not_leak() -> None:
    """What one route's rules accept another's may refuse, cached or not; the signature is checked once."""
    tokens, verifier = cache()
    strict = IdentityRules(issuer="x")
    assert isinstance(tokens.identify(made(), RULES, 1000), Identity)
    assert isinstance(tokens.identify(made(), strict, 1000), Refused)
    assert isinstance(tokens.identify(made(), RULES, 1000), Identity)
    other = tokens.identify(made(), IdentityRules(default_role="guest"), 1000)
    assert isinstance(other, Identity)
    assert other.role == "guest"
    assert verifier.verified == 1


def test_refusals_are_not_kept() -> None:
    """Strangers' tokens take no room."""
    tokens, _ = cache()
    for number in range(50):
        tokens.identify(made(str(number), b"x" * 32), RULES, 1000)
        tokens.identify(made(str(number)), RULES, 3000)
    assert len(tokens) == 0


def test_the_least_recently_used_goes_first() -> None:
    """At the bound the token that was not used for longest is forgotten."""
    tokens, verifier = cache(entries=3)
    for name in "abc":
        tokens.identify(made(name), RULES, 1000)
    tokens.identify(made("a"), RULES, 1000)
    tokens.identify(made("d"), RULES, 1000)
    before = verifier.verified
    tokens.identify(made("a"), RULES, 1000)
    assert verifier.verified == before
    tokens.identify(made("b"), RULES, 1000)
    assert verifier.verified == before + 1


@pytest.mark.parametrize("entries", [0, 5])
def test_bounds(entries: int) -> None:
    """Neither the count nor the bytes ever exceed their bounds."""
    tokens, _ = cache(entries, size=10_000)
    for number in range(40):
        tokens.identify(made(str(number)), RULES, 1000)
        assert len(tokens) <= entries
        assert tokens.used <= 10_000


def test_long_tokens_are_not_kept() -> None:
    """A token over 4 KiB is verified each time."""
    tokens, verifier = cache()
    raw = made(pad="x" * 5000)
    for _ in range(2):
        assert isinstance(tokens.identify(raw, RULES, 1000), Identity)
    assert (len(tokens), verifier.verified) == (0, 2)


def test_judging_keeps_nothing() -> None:
    """Who only asks what would be said changes nothing, and hears the same."""
    tokens, _ = cache()
    for raw in (made(), made("bob"), made(secret=b"t" * 32), made(exp=1)):
        said = tokens.judge(raw, RULES, 1000)
        assert len(tokens) == 0
        found = tokens.identify(raw, RULES, 1000)
        tokens.forget(lambda _: True)
        assert type(said) is type(found)
        assert getattr(said, "reason", None) == getattr(found, "reason", None)
        assert getattr(said, "user", None) == getattr(found, "user", None)


def test_what_is_revoked_is_neither_let_in_nor_kept() -> None:
    """It is asked once for each token that is verified, and not again for one that is known."""
    tokens, _ = cache()
    asked: list[str] = []
    refused = Refused(Reason.REVOKED)

    def revoked(raw: bytes, identity: Identity) -> Refused | None:
        asked.append(identity.user)
        return refused if identity.user == "bob" else None

    tokens.revoked = revoked
    for _ in range(3):
        assert tokens.identify(made("bob"), RULES, 1000) is refused
        assert isinstance(tokens.identify(made(), RULES, 1000), Identity)
    assert asked == ["bob", "alice", "bob", "bob"]
    assert tokens.judge(made("bob"), RULES, 1000) is refused
    assert len(tokens) == 1


def test_forgetting_some() -> None:
    """Only those that are meant go, with what they took."""
    tokens, _ = cache()
    for sub in ("alice", "bob", "carol"):
        tokens.identify(made(sub), RULES, 1000)
    used = tokens.used
    assert tokens.forget(lambda token: token.claims["sub"] == "bob") == 1
    assert made("bob") not in tokens
    assert made("alice") in tokens
    assert 0 < tokens.used < used
    assert tokens.forget(lambda _: True) == 2
    assert tokens.used == 0
