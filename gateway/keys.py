# -*- test-case-name: tests.test_keys -*-
"""
The key that tokens are verified with: lets in only a key that is strong enough and
bound, when it is loaded, to one family of algorithms; refuses any other with C{ValueError}.

A token's own header never chooses between keys or algorithms (CVE-2026-39999: a public
key was taken for an HMAC secret because the token said so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: RFC 7518 section 3.2: an HMAC key is at least as long as the hash.
_HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}

#: RFC 7518 sections 3.3 and 3.5; beyond the most, one verification takes too long.
_RSA_BITS = 2048
_RSA_MOST = 8192

#: RFC 7518 section 3.4.
CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}

FAMILIES: dict[str, str] = {
    **dict.fromkeys(_HMAC_BYTES, "HMAC"),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(CURVES, "EC"),
    "EdDSA": "EdDSA",
}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """
    A key and what it may verify. Its C{repr} never shows the key.

    @ivar algorithms: the only C{alg} values a token may have, and what verifies them.
    """

    algorithms: Mapping[str, Any]
    material: Any = field(repr=False)

    def verify(self, algorithm: object, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's; under an algorithm not allowed it never is."""
        checker = self.algorithms.get(algorithm) if isinstance(algorithm, str) else None
        if checker is None:
            return False
        try:
            return bool(checker.verify(signed, self.material, signature))
        except ValueError:
            return False


def bound(algorithms: Sequence[str], material: Any) -> VerificationKey:
    """A public key that may verify these and no others."""
    # PyJWT's own, found when the key is loaded: PyJWT and cryptography do the arithmetic.
    from jwt.algorithms import get_default_algorithms  # noqa: PLC0415 - costs 0.1 s

    known = get_default_algorithms()
    return VerificationKey({name: known[name] for name in algorithms}, material)


def _family(algorithms: Sequence[str]) -> str:
    if not algorithms:
        raise ValueError("no algorithm")
    for name in algorithms:
        if name not in FAMILIES:
            raise ValueError(f"unknown algorithm {name!r}; known are {', '.join(FAMILIES)}")
    families = {FAMILIES[name] for name in algorithms}
    if len(families) > 1:
        raise ValueError("one key has one family: HS*, RS* and PS*, ES*, or EdDSA")
    return families.pop()


def hmac_key(secret: bytes, algorithms: Sequence[str]) -> VerificationKey:
    """
    A shared secret.

    @raise ValueError: when it is too short, looks like a public key, or the algorithms
        are not HMAC's.
    """
    if _family(algorithms) != "HMAC":
        raise ValueError(f"{', '.join(algorithms)} needs public_key_file, not a secret")
    if b"-----BEGIN" in secret or secret.startswith((b"ssh-rsa ", b"ssh-ed25519 ")):
        raise ValueError("the secret is a key file's text; HS* needs random bytes nobody knows")
    needed = max(_HMAC_BYTES[name] for name in algorithms)
    if len(secret) < needed:
        raise ValueError(
            f"the secret has {len(secret)} bytes; {', '.join(algorithms)} needs at least {needed}"
        )
    return bound(algorithms, secret)


def public_key(pem: bytes, algorithms: Sequence[str]) -> VerificationKey:
    """
    A public key in PEM.

    @raise ValueError: when it is none, too short, of another family or curve, or private.
    """
    family = _family(algorithms)
    if family == "HMAC":
        raise ValueError("HS* needs a secret, not a public key")
    if b"PRIVATE KEY" in pem:
        raise ValueError("this is a private key; the gateway needs the public one only")
    # Imported late: an HS* gateway starts without it.
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(pem)
    except Exception:
        raise ValueError("not a public key in PEM") from None
    named = ", ".join(algorithms)
    if family == "RSA":
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError(f"{named} needs an RSA key")
        refuse_weak_rsa(key.public_numbers().n)
    elif family == "EC":
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError(f"{named} needs an elliptic-curve key")
        for name in algorithms:
            if key.curve.name != CURVES[name]:
                raise ValueError(f"{name} needs the curve {CURVES[name]}, not {key.curve.name}")
    elif not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        raise ValueError("EdDSA needs an Ed25519 or Ed448 key")
    return bound(algorithms, key)


def refuse_weak_rsa(modulus: int) -> None:
    """
    Look at an RSA key's modulus.

    @raise ValueError: when it is too short, too long, or made by a chip whose keys can be
        factored (ROCA, CVE-2017-15361).
    """
    bits = modulus.bit_length()
    if bits < _RSA_BITS:
        raise ValueError(f"an RSA key of {bits} bits; at least {_RSA_BITS} are needed")
    if bits > _RSA_MOST:
        raise ValueError(f"an RSA key of {bits} bits; at most {_RSA_MOST} are used")
    if all(modulus % prime in _powers(prime) for prime in _ROCA_PRIMES):
        raise ValueError("an RSA key that can be factored (ROCA, CVE-2017-15361)")


#: Such a key is a power of 65537 modulo each of these; another one by a chance of 2^-28.
_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)


def _powers(prime: int) -> set[int]:
    return {pow(65537, exponent, prime) for exponent in range(prime)}
