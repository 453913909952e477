"""Tests for gateway.jwks: which keys of a published set are used."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jwks import key_ring
from gateway.keys import FAMILIES, refuse_weak_rsa
from tests.system.issuer import private_key, public_jwk

ALL = [name for name, family in FAMILIES.items() if family != "HMAC"]
KEYS = {name: private_key(name) for name in ("RS256", "ES256", "ES384", "ES512", "EdDSA")}
RSA = public_jwk(KEYS["RS256"], "RS256", kid="r")
EC = public_jwk(KEYS["ES256"], "ES256", kid="e")


def document(*keys: object, **members: object) -> bytes:
    """A set."""
    return json.dumps({"keys": keys, **members}).encode()


def problem(*keys: object, algorithms: list[str] = ALL) -> str:
    """Why the first is not used; the second is."""
    found = key_ring(document(*keys, EC | {"kid": "good"}), algorithms)
    assert [key.kid for key in found.keys] == ["good"]
    return " ".join(found.problems)


@pytest.mark.parametrize("algorithm", KEYS)
def test_keys_verify_what_they_signed(algorithm: str) -> None:
    """A published key verifies its owner's signatures under its own algorithm and no other."""
    ring = key_ring(document(public_jwk(KEYS[algorithm], algorithm, kid="k")), ALL)
    raw = jwt.encode({}, KEYS[algorithm], algorithm).encode()
    signed, _, signature = raw.rpartition(b".")
    named = ring.find("k", algorithm)
    assert named is not None
    data = jwt.utils.base64url_decode(signature)
    assert named.key.verify(algorithm, signed, data)
    assert not named.key.verify(algorithm, signed + b"x", data)
    for other in [*FAMILIES, "none", ""]:
        assert other == algorithm or ring.find("k", other) is None
        assert other == algorithm or not named.key.verify(other, signed, data)


def test_ed448() -> None:
    """Ed448 keys are known, too."""
    key = ed448.Ed448PrivateKey.generate()
    assert key_ring(document(public_jwk(key, "EdDSA", kid="k")), ALL).find("k", "EdDSA") is not None


def test_without_alg() -> None:
    """A key that names no algorithm is bound to those of its family that the configuration allows."""
    ring = key_ring(document(public_jwk(KEYS["RS256"], "RS256", kid="k", alg=None)), ["RS256", "PS512", "ES256"])
    assert list(ring.keys[0].key.algorithms) == ["RS256", "PS512"]


@pytest.mark.parametrize("name", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_secrets_in_public(name: str) -> None:
    """A key published with a private member is not used; the good ones beside it are."""
    assert "a secret is published" in problem(RSA | {name: "AQAB"})


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ({"kty": "oct", "k": "A" * 43, "alg": "HS256", "kid": "s"}, "a secret is published"),
        (RSA | {"e": "AQ"}, "exponent"),
        (RSA | {"e": "Aw"}, "exponent"),
        (RSA | {"e": "AQAA"}, "exponent"),
        (RSA | {"e": "////"}, "base64url"),
        (RSA | {"n": "A" * 4000}, "too long"),
        (RSA | {"n": ""}, "base64url"),
        (RSA | {"n": RSA["n"] + "="}, "base64url"),
        (RSA | {"n": 17}, "base64url"),
        (public_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), "RS256"), "1024 bits"),
        (EC | {"x": EC["y"]}, "not on the curve"),
        (EC | {"x": EC["x"][4:]}, "length"),
        (EC | {"kid": 7}, "kid"),
        (EC | {"kid": ""}, "kid"),
        (EC | {"kid": "x" * 257}, "kid"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "o"}, "low order"),
        ({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "o"}, "length"),
        ("text", "no JWK"),
        ({"kty": ["RSA"]}, "no JWK"),
        ({}, "no JWK"),
    ],
)
def test_bad_keys(key: Any, says: str) -> None:
    """Weak, broken and symmetric keys are not used, each with its reason; the good ones beside them are."""
    assert says in problem(key)


@pytest.mark.parametrize(
    "key",
    [
        EC | {"use": "enc"}, EC | {"key_ops": ["sign"]}, EC | {"key_ops": "verify"}, {"kty": "unknown"}, EC | {"crv": "secp256k1"},
        EC | {"alg": "ES384"}, RSA | {"alg": "ES256"}, RSA | {"alg": "HS256"}, RSA | {"alg": "none"}, RSA | {"alg": ["RS256"]},
        EC | {"crv": None}, {"kty": "OKP", "crv": "X25519", "x": "A" * 43}, EC | {"crv": ["P-256"]},
        {"kty": "OKP", "crv": ["Ed25519"]},
    ],
)  # fmt: skip
def test_keys_for_something_else(key: Any) -> None:
    """Keys for encryption, of unknown kinds, or of algorithms that are not allowed are skipped without a word."""
    assert problem(key) == ""


def test_roca() -> None:
    """An RSA key whose modulus bears the mark of ROCA (CVE-2017-15361) is refused; ordinary ones are not."""
    marked = 1
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157):
        marked *= prime
    modulus = pow(65537, 12345, marked) + marked * (1 << 1950)
    with pytest.raises(ValueError, match="ROCA"):
        refuse_weak_rsa(modulus)
    refuse_weak_rsa(KEYS["RS256"].public_key().public_numbers().n)
    with pytest.raises(ValueError, match="at most"):
        refuse_weak_rsa(1 << 9000)


def test_two_of_one_name() -> None:
    """Two keys that share name and algorithm can't be told apart: neither is used."""
    other = public_jwk(ec.generate_private_key(ec.SECP256R1()), "ES256", kid="e")
    ring = key_ring(document(EC, other, RSA | {"kid": "e"}), ALL)
    assert ring.find("e", "ES256") is None
    assert ring.find("e", "RS256") is not None
    assert "share a kid" in ring.problems[0]


def test_tokens_without_kid() -> None:
    """A token that names no key has one only if exactly one fits its algorithm."""
    ring = key_ring(document(EC, RSA), ALL)
    assert ring.find(None, "ES256") is ring.keys[0]
    other = public_jwk(ec.generate_private_key(ec.SECP256R1()), "ES256", kid="f")
    assert key_ring(document(EC, other), ALL).find(None, "ES256") is None


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [], "keys": []}', b"\xff", b"[" * 100_000,
     document(EC | {"use": "enc"}), document(*[EC] * 101), b" " * 262_145, document(EC).replace(b'"kty"', b'"kty": "EC", "kty"', 1)],
)  # fmt: skip
def test_sets_that_are_none(text: bytes) -> None:
    """A document that is no set, is too long, or has no key that can be used is refused whole, so that the old keys stay."""
    with pytest.raises(ValueError, match=r"key set|key that can be used"):
        key_ring(text, ALL)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid", "key_ops"]), JSON), st.sampled_from([RSA, EC]))
def test_any_key_is_a_verdict(members: dict[str, Any], base: dict[str, Any]) -> None:
    """Whatever an issuer publishes, there is a key or a reason, and no other error."""
    key_ring(document(base | members, EC | {"kid": "good"}), ALL)
