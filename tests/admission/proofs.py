"""Senders of DPoP proofs, and client certificates, for tests."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from jwt.algorithms import get_default_algorithms

from gateway.admission.dpop import thumbprint


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def token_hash(token: bytes) -> str:
    """C{ath} of a token."""
    return b64(hashlib.sha256(token).digest())


class Sender:
    """A client with a key."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.algorithm = algorithm
        self.private: Any = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }.get(algorithm, lambda: rsa.generate_private_key(65537, 2048))()
        to_jwk: Any = get_default_algorithms()[algorithm].to_jwk
        full = json.loads(to_jwk(self.private.public_key()))
        self.jwk = {name: full[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in full}
        self.jkt = thumbprint(self.jwk)

    def sign(self, payload: bytes, **header: Any) -> bytes:
        """A proof with that payload; a header member of C{None} is left out."""
        head = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk, **header}
        head = {name: value for name, value in head.items() if value is not None}
        signed = f"{b64(json.dumps(head).encode())}.{b64(payload)}".encode()
        algorithm = get_default_algorithms()[self.algorithm]
        return signed + b"." + b64(algorithm.sign(signed, self.private)).encode()

    def proof(self, claims: dict[str, Any], **header: Any) -> bytes:
        """A proof with these claims."""
        return self.sign(json.dumps(claims).encode(), **header)

    def prove(self, method: str, htu: str, token: str, jti: str, **more: Any) -> str:
        """A proof for a request now."""
        claims = {"jti": jti, "htm": method, "htu": htu, "iat": time.time(), "ath": token_hash(token.encode()), **more}
        return self.proof(claims).decode()

    def token(self, secret: str, **claims: Any) -> str:
        """An access token that is bound to the key."""
        payload = {"sub": "alice", "exp": int(time.time()) + 600, "cnf": {"jkt": self.jkt}, **claims}
        return jwt.encode(payload, secret, "HS256")


def name_of(**attributes: Any) -> x509.Name:
    """A subject."""
    oids = {"CN": NameOID.COMMON_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "O": NameOID.ORGANIZATION_NAME}
    pairs = [(oids[name], value) for name, values in attributes.items()
             for value in ([values] if isinstance(values, str) else values)]  # fmt: skip
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


class Authority:
    """Issues certificates."""

    def __init__(self, name: str = "clients", ca: bool = True, **more: Any) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name_of(CN=name)
        builder = self._builder(self.name, self.key, **more).add_extension(
            x509.BasicConstraints(ca=ca, path_length=None), critical=True
        )
        self.certificate = builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def _builder(self, subject: x509.Name, key: Any, begins: float = -3600, ends: float = 3600) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(seconds=begins))
            .not_valid_after(now + timedelta(seconds=ends))
        )

    def issue(self, subject: x509.Name, *names: x509.GeneralName, usage: Any = ExtendedKeyUsageOID.CLIENT_AUTH,
              critical: bool = False, **more: Any) -> Issued:  # fmt: skip
        """A client's certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, key, **more)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if critical:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
            builder = builder.add_extension(unknown, critical=True)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


class Issued:
    """A certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.der = certificate.public_bytes(Encoding.DER)
        self.pem = certificate.public_bytes(Encoding.PEM)
        self.key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.thumbprint = b64(hashlib.sha256(self.der).digest())
