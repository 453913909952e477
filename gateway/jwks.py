# -*- test-case-name: tests.test_jwks -*-
"""
An issuer's key set (RFC 7517): lets in public keys that are strong enough and of a family
the configuration allows; refuses private, symmetric and weak ones, each by itself, so that
one bad key locks nobody out who signs with a good one.

Each key is bound here to the algorithms that it, and the configuration, allow. Certificates
and addresses in a key (C{x5c}, C{x5u}) are never looked at.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.jose import json_object, unbase64
from gateway.keys import CURVES, FAMILIES, VerificationKey, bound, refuse_weak_rsa

#: Bytes of a document.
MAX_DOCUMENT = 256 * 1024

#: Keys of a set; issuers have a handful.
MAX_KEYS = 100

#: Characters of a key's identifier.
MAX_KID = 256

_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_EC = {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1"}
_EDWARDS = {"Ed25519": 32, "Ed448": 57}


@dataclass(frozen=True, slots=True, eq=False)
class NamedKey:
    """
    A key of a set; compared by identity.

    @ivar kid: its identifier, or C{None}.
    @ivar meaning: equal for keys that are the same in every respect.
    """

    kid: str | None
    key: VerificationKey
    meaning: Hashable

    def __str__(self) -> str:
        name = "without kid" if self.kid is None else self.kid
        return f"{name} ({', '.join(self.key.algorithms)})"


class KeyRing:
    """
    The keys of one set.

    @ivar problems: sentences about keys that are not used.
    """

    def __init__(self, keys: Sequence[NamedKey], problems: Sequence[str] = ()) -> None:
        self.keys = tuple(keys)
        self.problems = tuple(problems)
        self._named: dict[str, list[NamedKey]] = {}
        for key in keys:
            if key.kid is not None:
                self._named.setdefault(key.kid, []).append(key)

    def names(self, kid: str) -> bool:
        """Whether a key is called so."""
        return kid in self._named

    def find(self, kid: str | None, algorithm: str) -> NamedKey | None:
        """
        The one key for a token that names C{kid} and C{algorithm}; a token that names no key
        has one only if exactly one fits.
        """
        among = self.keys if kid is None else self._named.get(kid, ())
        fit = [key for key in among if algorithm in key.key.algorithms]
        return fit[0] if len(fit) == 1 else None

    def like(self, before: KeyRing | None) -> KeyRing:
        """The same with the very objects of C{before} where a key was there already."""
        known = {key.meaning: key for key in before.keys} if before is not None else {}
        return KeyRing([known.get(key.meaning, key) for key in self.keys], self.problems)


def key_ring(document: bytes, algorithms: Sequence[str]) -> KeyRing:
    """
    Read a JWK Set.

    @raise ValueError: when it is none, or holds no key that can be used.
    """
    if len(document) > MAX_DOCUMENT:
        raise ValueError(f"the key set is longer than {MAX_DOCUMENT} bytes")
    found = json_object(document)
    listed = found.get("keys") if found is not None else None
    if not isinstance(listed, list):
        raise ValueError("not a key set (RFC 7517 section 5)")
    if len(listed) > MAX_KEYS:
        raise ValueError(f"the key set has more than {MAX_KEYS} keys")
    keys: list[NamedKey] = []
    problems: list[str] = []
    for number, jwk in enumerate(listed, 1):
        try:
            key = named_key(jwk, algorithms)
        except ValueError as error:
            problems.append(f"key {_called(jwk, number)} is not used: {error}")
        else:
            keys += [key] if key is not None else []
    for number, key in enumerate(keys):
        if any(_clash(key, other) for other in keys[:number]):
            problems.append(f"neither key {_called({'kid': key.kid}, 0)} is used: they share a kid")
    if not keys:
        raise ValueError("; ".join(["the key set has no key that can be used", *problems[:5]]))
    return KeyRing(keys, problems)


def named_key(jwk: Any, algorithms: Sequence[str]) -> NamedKey | None:
    """
    One key, or C{None} for one that is meant for something else.

    @raise ValueError: when it should not be there.
    """
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kty"), str):
        raise ValueError("no JWK")
    if jwk["kty"] == "oct" or any(name in jwk for name in _PRIVATE):
        raise ValueError("a secret is published with it; its owner must replace it")
    kid, use, operations = jwk.get("kid"), jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID):
        raise ValueError(f"kid is not a text of up to {MAX_KID} characters")
    if use != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    named = jwk.get("alg")
    fitting = [
        name for name in algorithms if name in _fitting(jwk) and (named is None or name == named)
    ]
    if not fitting:
        return None
    material = _MATERIAL[jwk["kty"]](jwk)
    meaning = (kid, tuple(fitting), *(jwk.get(name) for name in ("kty", "crv", "n", "e", "x", "y")))
    return NamedKey(kid, bound(fitting, material), meaning)


def _fitting(jwk: dict[str, Any]) -> Iterator[str]:
    """The algorithms that a key of that kind is good for."""
    kty, curve = jwk["kty"], jwk.get("crv")
    curve = curve if isinstance(curve, str) else ""
    for name, family in FAMILIES.items():
        if (
            (kty == "RSA" and family == "RSA")
            or (kty == "EC" and CURVES.get(name) == _EC.get(curve, ""))
            or (kty == "OKP" and family == "EdDSA" and curve in _EDWARDS)
        ):
            yield name


def _rsa(jwk: dict[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - costs start-up

    modulus, exponent = _number(jwk, "n"), _number(jwk, "e")
    # FIPS 186-4 appendix B.3.1; and a huge one makes every verification slow.
    if not 65537 <= exponent < 1 << 32 or exponent % 2 == 0:
        raise ValueError("its public exponent is not an odd number from 65537 to 2^32")
    refuse_weak_rsa(modulus)
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _ec(jwk: dict[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - costs start-up

    curves: dict[str, ec.EllipticCurve] = {
        "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(),
    }  # fmt: skip
    curve = curves[jwk["crv"]]
    length = (curve.key_size + 7) // 8
    x, y = _bytes(jwk, "x"), _bytes(jwk, "y")
    if len(x) != length or len(y) != length:  # RFC 7518 section 6.2.1.2
        raise ValueError("its coordinates have not the curve's length")
    try:
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(x), int.from_bytes(y), curve
        ).public_key()
    except ValueError:
        raise ValueError("its point is not on the curve") from None


def _okp(jwk: dict[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519  # noqa: PLC0415

    x = _bytes(jwk, "x")
    if len(x) != _EDWARDS[jwk["crv"]]:
        raise ValueError("it has not the curve's length")
    if jwk["crv"] == "Ed448":
        return ed448.Ed448PublicKey.from_public_bytes(x)
    if x in _LOW_ORDER:
        raise ValueError("its point has a low order: anybody can sign with it")
    return ed25519.Ed25519PublicKey.from_public_bytes(x)


_MATERIAL = {"RSA": _rsa, "EC": _ec, "OKP": _okp}

#: Ed25519's points of low order, canonical or not (RFC 8032 section 5.1.7 leaves them to us).
_LOW_ORDER = {
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "00" * 31 + "80",
        "01" + "00" * 31,
        "01" + "00" * 30 + "80",
        "ec" + "ff" * 30 + "7f",
        "ec" + "ff" * 31,
        "ed" + "ff" * 30 + "7f",
        "ed" + "ff" * 31,
        "ee" + "ff" * 30 + "7f",
        "ee" + "ff" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
}


def _bytes(jwk: dict[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    data = unbase64(value.encode("ascii", "replace")) if isinstance(value, str) else None
    if data is None:
        raise ValueError(f"{name} is not base64url")
    return data


def _number(jwk: dict[str, Any], name: str) -> int:
    data = _bytes(jwk, name)
    if len(data) > 2048:
        raise ValueError(f"{name} is too long")
    return int.from_bytes(data)


def _clash(one: NamedKey, other: NamedKey) -> bool:
    return one.kid is not None and one.kid == other.kid and any(
        name in other.key.algorithms for name in one.key.algorithms
    )


def _called(jwk: Any, number: int) -> str:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    if not isinstance(kid, str):
        return f"number {number}"
    return kid[:40].encode("unicode_escape").decode("ascii")
