"""Tests for gateway.admission.tokens: which tokens are let through, and the attacks on that."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.tokens import VerifiedToken, Verifier, bearer, challenge
from gateway.keys import hmac_key, public_key
from gateway.verdicts import Reason, Refused

SECRET = b"s" * 64
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS = {
    "RS256": RSA, "RS384": RSA, "RS512": RSA, "PS256": RSA, "PS384": RSA, "PS512": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()), "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}  # fmt: skip
CLAIMS = {"sub": "alice", "exp": 2_000_000_000}


def pem(private: object) -> bytes:
    """The public key in PEM."""
    return private.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def part(data: bytes) -> bytes:
    """A part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(claims: bytes | dict[str, object], header: bytes = b'{"alg":"HS256"}', key: bytes = SECRET) -> bytes:
    """A token rightly signed, whatever it says."""
    raw = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = part(header) + b"." + part(raw)
    return text + b"." + part(jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(text, key))


HS = Verifier(hmac_key(SECRET, ["HS256"]))


def reason(found: VerifiedToken | Refused) -> Reason:
    """Why it was refused."""
    assert isinstance(found, Refused), found
    assert found.lines == challenge(found.reason)
    return found.reason


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac(algorithm: str) -> None:
    """HS tokens signed with the secret pass."""
    raw = jwt.encode(CLAIMS, SECRET, algorithm).encode()
    found = Verifier(hmac_key(SECRET, [algorithm])).verify(raw)
    assert isinstance(found, VerifiedToken)
    assert (found.claims, found.exp, found.nbf) == (CLAIMS, 2_000_000_000, None)


@pytest.mark.parametrize("algorithm", KEYS)
def test_public_keys(algorithm: str) -> None:
    """RS, PS, ES and EdDSA tokens pass with their public key, and with one bit less they do not."""
    raw = jwt.encode(CLAIMS, KEYS[algorithm], algorithm).encode()
    verifier = Verifier(public_key(pem(KEYS[algorithm]), [algorithm]))
    assert isinstance(verifier.verify(raw), VerifiedToken)
    head, claims, signature = raw.split(b".")
    spoilt = bytearray(base64.urlsafe_b64decode(signature + b"=="))
    spoilt[5] ^= 1
    assert reason(verifier.verify(b".".join((head, claims, part(bytes(spoilt)))))) is Reason.SIGNATURE


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_row_1_public_key_as_secret(algorithm: str) -> None:
    """Row 1 (CVE-2026-39999): a token signed HS256 with the public key's text is refused."""
    text = pem(KEYS[algorithm])
    verifier = Verifier(public_key(text, [algorithm]))
    for key in (text, text.strip(), text.replace(b"\n", b"")):
        assert reason(verifier.verify(signed(CLAIMS, key=key))) is Reason.SIGNATURE


@pytest.mark.parametrize("alg", ['"none"', '"nOnE"', '""', "null", '"HS384"', '"RS256"', '["HS256"]', "1"])
def test_row_1_algorithms_not_allowed(alg: str) -> None:
    """Row 1: an algorithm that is not configured never verifies."""
    assert reason(HS.verify(signed(CLAIMS, b'{"alg":%s}' % alg.encode()))) is Reason.SIGNATURE
    assert reason(HS.verify(part(b'{"alg":%s}' % alg.encode()) + b"." + part(b"{}") + b".")) is Reason.SIGNATURE


def test_row_2_header_keys_are_never_used() -> None:
    """Row 2 (CVE-2026-48523): a key or an address in the token's own header changes nothing."""
    for extra in (b'"jwk":{"kty":"oct","k":"AAAA"}', b'"jku":"http://evil"', b'"x5u":"http://evil"', b'"kid":"../../etc"'):
        assert reason(HS.verify(signed(CLAIMS, b'{"alg":"HS256",%s}' % extra, b"x" * 64))) is Reason.SIGNATURE
        assert isinstance(HS.verify(signed(CLAIMS, b'{"alg":"HS256",%s}' % extra)), VerifiedToken)


@pytest.mark.parametrize("header", [b'{"alg":"HS256","crit":["exp"]}', b'{"alg":"HS256","crit":[]}', b'{"alg":"HS256","b64":false}'])
def test_row_2_critical_headers(header: bytes) -> None:
    """Row 2 (GHSA-752w-5fwx-jx9f): critical headers are refused though rightly signed."""
    assert reason(HS.verify(signed(CLAIMS, header))) is Reason.TOKEN


@pytest.mark.parametrize(
    "claims",
    [b"[]", b'"x"', b"1", b"null", b"{", b"", b'{"sub":"a","sub":"b"}', b'{"exp":true}', b'{"exp":"9"}', b'{"exp":NaN}',
     b'{"exp":Infinity}', b'{"exp":1e999}', b'{"exp":null}', b'{"nbf":false}', b'{"nbf":[]}', b'{"a":{"b":1,"b":2}}', b'\xff', b"[" * 9000],
)  # fmt: skip
def test_shapes_that_are_refused(claims: bytes) -> None:
    """Claims that are no object, named twice, or with times that are no finite numbers are refused."""
    assert reason(HS.verify(signed(claims))) is Reason.TOKEN


def test_one_spelling_only() -> None:
    """Padding, blanks, other alphabets and spare bits make no second spelling of a token."""
    raw = signed(CLAIMS)
    head, claims, signature = raw.split(b".")
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = signature[:-1] + bytes((last[last.index(signature[-1]) ^ 1],))
    for other in (raw + b"=", raw + b" ", b" " + raw, raw + b".", head + b"." + claims, raw.replace(b".", b"..", 1), b".".join((head, claims, twin))):
        assert reason(HS.verify(other)) in (Reason.TOKEN, Reason.SIGNATURE)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_verdict(raw: bytes) -> None:
    """Whatever comes as a token, there is an answer and no error."""
    assert isinstance(HS.verify(raw), Refused)
    assert isinstance(HS.verify(raw + b"." + raw + b"." + raw), Refused)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Reason.NO_TOKEN), ([b"Bearer"], Reason.NO_TOKEN), ([b"Basic eA=="], Reason.NO_TOKEN), ([b""], Reason.NO_TOKEN),
        ([b"Bearerx y"], Reason.NO_TOKEN), ([b"Bearer a", b"Bearer a"], Reason.AUTHORIZATION_REPEATED),
    ],
)  # fmt: skip
def test_bearer_refusals(values: list[bytes], expected: Reason) -> None:
    """No, another, or more than one credential is refused in its own words."""
    found = bearer(values)
    assert isinstance(found, Refused)
    assert found.reason is expected


def test_bearer() -> None:
    """The scheme's case does not matter; inner blanks end up in a token that is refused."""
    assert bearer([b"bEaReR abc"]) == b"abc"
    raw = bearer([b"Bearer  abc"])
    assert isinstance(raw, bytes)
    assert reason(HS.verify(raw)) is Reason.TOKEN


def test_challenges() -> None:
    """No error code when no token came (RFC 6750 section 3.1), invalid_token otherwise."""
    assert challenge(Reason.NO_TOKEN) == b'WWW-Authenticate: Bearer realm="gateway"\r\n'
    assert b'error="invalid_token", error_description="Token expired"' in challenge(Reason.EXPIRED)
