"""Tests for gateway.keys: strong keys of one family, nothing else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.keys import hmac_key, public_key


def pem(private: object) -> bytes:
    """The public key in PEM."""
    return private.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P256 = ec.generate_private_key(ec.SECP256R1())
PRIVATE = RSA.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_short_secrets(algorithm: str, least: int) -> None:
    """Row 2: a secret shorter than its hash is refused (RFC 7518 section 3.2), one byte more is not."""
    with pytest.raises(ValueError, match=f"at least {least}"):
        hmac_key(b"x" * (least - 1), [algorithm])
    assert hmac_key(b"x" * least, [algorithm]).verify("HS256", b"a", b"b") is False


@pytest.mark.parametrize(
    ("key", "algorithms", "says"),
    [
        (pem(SMALL), ["RS256"], "1024 bits"),
        (pem(P256), ["RS256"], "needs an RSA key"),
        (pem(RSA), ["ES256"], "needs an elliptic-curve key"),
        (pem(P256), ["ES384"], "secp384r1"),
        (pem(RSA), ["EdDSA"], "Ed25519"),
        (pem(RSA), ["HS256"], "needs a secret"),
        (pem(RSA), ["RS256", "ES256"], "one family"),
        (pem(RSA), ["RS256", "none"], "unknown algorithm"),
        (pem(RSA), [], "no algorithm"),
        (PRIVATE, ["RS256"], "private key"),
        (b"nonsense", ["RS256"], "not a public key"),
    ],
)
def test_public_keys_that_are_refused(key: bytes, algorithms: list[str], says: str) -> None:
    """Row 1: a key is bound to one family when it is loaded, or not loaded."""
    with pytest.raises(ValueError, match=says):
        public_key(key, algorithms)


def test_a_key_file_is_no_secret() -> None:
    """Row 1: the text of a public key is never taken for an HMAC secret."""
    with pytest.raises(ValueError, match="key file"):
        hmac_key(pem(RSA), ["HS256"])


def test_keys_never_show() -> None:
    """A key's repr says which algorithms, not which key."""
    assert "sssss" not in repr(hmac_key(b"s" * 40, ["HS256"]))
