# -*- test-case-name: tests.assertion.test_keys -*-
"""
The keys that assertions are signed with: lets in P-256 (ES256) and Ed25519 (EdDSA) private
keys in PEM, the first of which signs while all are published; refuses others with
C{ValueError}.

A key's name is its thumbprint (RFC 7638), so that every process with the same file agrees.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

_BLOCK = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S)

#: Keys that one gateway publishes at most.
MOST = 8


@dataclass(frozen=True, slots=True)
class SigningKey:
    """
    One key. Its C{repr} never shows it.

    @ivar algorithm: C{ES256} or C{EdDSA}.
    @ivar kid: its name.
    @ivar jwk: the public half (RFC 7517).
    @ivar sign: bytes to a signature as a JWS has it (RFC 7518 section 3.4, RFC 8037).
    """

    algorithm: str
    kid: str
    jwk: dict[str, str] = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)


def base64url(data: bytes) -> bytes:
    """Without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=")


def signing_keys(pem: bytes) -> tuple[SigningKey, ...]:
    """
    The private keys of a file, in its order, each once.

    @raise ValueError: when there is none, one that can't be used, or too many.
    """
    found = {key.kid: key for key in map(_key, _BLOCK.findall(pem))}
    if not found:
        raise ValueError("holds no private key in PEM")
    if len(found) > MOST:
        raise ValueError(f"holds more than {MOST} keys")
    return tuple(found.values())


def _key(block: bytes) -> SigningKey:
    # Imported late: a gateway without assertions starts without it.
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(block, None)
    except Exception:
        raise ValueError("holds what is no private key in PEM without a password") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        x = base64url(key.public_key().public_bytes_raw()).decode()
        return _named("EdDSA", {"crv": "Ed25519", "kty": "OKP", "x": x}, key.sign)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        point = key.public_key().public_numbers()
        x, y = (base64url(each.to_bytes(32)).decode() for each in (point.x, point.y))
        return _named("ES256", {"crv": "P-256", "kty": "EC", "x": x, "y": y}, _es256(key))
    raise ValueError("holds a key of another kind; expected P-256 (ES256) or Ed25519 (EdDSA)")


def _named(algorithm: str, members: dict[str, str], sign: Callable[[bytes], bytes]) -> SigningKey:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    kid = base64url(sha256(canonical).digest()).decode()
    return SigningKey(
        algorithm, kid, {**members, "kid": kid, "alg": algorithm, "use": "sig"}, sign
    )


def _es256(key: Any) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    how, sign = ECDSA(SHA256()), key.sign

    def signed(data: bytes) -> bytes:
        r, s = decode_dss_signature(sign(data, how))
        return (r << 256 | s).to_bytes(64)

    return signed


def published(keys: tuple[SigningKey, ...]) -> bytes:
    """The key set that upstreams fetch (RFC 7517 section 5)."""
    return json.dumps({"keys": [key.jwk for key in keys]}).encode("ascii")


def generate() -> bytes:
    """A new P-256 key in PEM."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def kept(path: str) -> bytes:
    """
    The key in that file, which is made, for its owner alone, where there is none. Whoever
    comes at the same time gets the same one.

    @raise OSError: when it can be neither read nor made.
    """
    file = Path(path)
    with contextlib.suppress(FileNotFoundError):
        return file.read_bytes()
    fresh = file.with_name(f"{file.name}.{token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as writing:
            writing.write(generate())
            writing.flush()
            os.fsync(writing.fileno())
        # A link can't take the place of a file that somebody else has made meanwhile.
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(fresh)
    finally:
        fresh.unlink()
    return file.read_bytes()
