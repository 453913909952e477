# -*- test-case-name: tests.admission.test_certificates -*-
"""
Clients' certificates: lets in as somebody who has one that a configured authority has issued
directly and that is valid now; says its thumbprint, to which a token may be bound (RFC 8705).

Whether the client has the certificate's key was shown in the TLS handshake, to us or to a
trusted proxy that tells us of the certificate in a header.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gateway.admission.identity import Identity, field_text
from gateway.verdicts import Reason, Refused

if TYPE_CHECKING:
    from cryptography import x509

#: Bytes of a certificate that is looked at.
MAX_DER = 16 * 1024

#: Certificates remembered.
_MEMO = 4096

UNREADABLE = Refused(Reason.CERTIFICATE_UNREADABLE)

_PEM = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*"
)
#: RFC 8941 section 3.3.5: a byte sequence.
_BYTES = re.compile(rb":([A-Za-z0-9+/=]+):")


def der_of(value: bytes) -> bytes | None:
    """
    The certificate in a trusted proxy's header: a byte sequence (RFC 9440 section 2.1), or
    URL-encoded PEM. C{None}: it is neither.
    """
    match = _BYTES.fullmatch(value)
    if match is None and len(value) <= 3 * MAX_DER:
        match = _PEM.fullmatch(unquote_to_bytes(value))
    if match is None:
        return None
    try:
        der = b64decode(b"".join(match[1].split()), validate=True)
    except ValueError:
        return None
    return der if 0 < len(der) <= MAX_DER else None


def told(values: Sequence[bytes]) -> bytes | Refused | None:
    """The certificate that a trusted proxy tells of; C{None}: its client has none."""
    if not values or values == [b""]:
        return None
    der = der_of(values[0]) if len(values) == 1 else None
    return UNREADABLE if der is None else der


def thumbprint(der: bytes) -> str:
    """What a token names it by: C{x5t#S256} (RFC 8705 section 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode("ascii")


class Authorities:
    """
    Who may issue clients' certificates.

    @raise ValueError: when the PEM holds no certificate, or one that is no authority's.
    """

    def __init__(self, pem: bytes) -> None:
        from cryptography import x509  # noqa: PLC0415 - costs start-up; few gateways need it

        try:
            found = x509.load_pem_x509_certificates(pem)
            extensions = [list(certificate.extensions) for certificate in found]
        except Exception:
            # Whatever a parser raises: the file is not what is needed.
            raise ValueError("holds no certificates in PEM that can be read") from None
        self._by_name: dict[bytes, list[x509.Certificate]] = {}
        for certificate, has in zip(found, extensions, strict=True):
            _refuse_no_authority(certificate, has)
            self._by_name.setdefault(certificate.subject.public_bytes(), []).append(certificate)

    def issuer_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """The authority that has issued it directly, or C{None}."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and algorithm.name in ("md5", "sha1"):
            return None
        for authority in self._by_name.get(certificate.issuer.public_bytes(), ()):
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return authority
        return None


def _refuse_no_authority(
    certificate: x509.Certificate, has: Sequence[x509.Extension[Any]]
) -> None:
    from cryptography import x509  # noqa: PLC0415

    extensions = {each.oid: each for each in has}
    basic = extensions.get(x509.BasicConstraints.oid)
    usage = extensions.get(x509.KeyUsage.oid)
    known = (x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid)
    name = certificate.subject.rfc4514_string()
    if basic is None or not basic.value.ca:
        raise ValueError(f"{name} is no authority's certificate")
    if usage is not None and not usage.value.key_cert_sign:
        raise ValueError(f"{name} may not sign certificates")
    if any(each.critical and each.oid not in known for each in has):
        # Name constraints, policies: what we don't look at must not seem to hold.
        raise ValueError(f"{name} has a critical extension that is not looked at here")


class CertificateRules:
    """
    What is made of a client's certificate.

    @param authorities: C{None}: certificates are only what tokens are bound to.
    @param user: C{subject.CN}, C{san.email}, C{san.dns}, C{san.uri} or C{none}.
    @param role: C{subject.OU}, C{subject.O}, or the role itself.
    """

    def __init__(
        self, authorities: Authorities | None, user: str = "none", role: str = "user"
    ) -> None:
        self._authorities = authorities
        self._user = user
        self._role = role
        self._known: dict[bytes, Certificate] = {}

    def look(self, der: bytes) -> Certificate:
        """What there is to know about a certificate, whatever it is."""
        known = self._known.get(der)
        if known is None:
            if len(self._known) >= _MEMO:
                self._known.clear()
            known = self._known[der] = self._read(der)
        return known

    def _read(self, der: bytes) -> Certificate:
        from cryptography import x509  # noqa: PLC0415

        name = thumbprint(der)
        if self._authorities is None:
            return Certificate(name)
        try:
            certificate = x509.load_der_x509_certificate(der)
            authority = self._authorities.issuer_of(certificate)
            if authority is None or not _for_clients(certificate):
                return Certificate(name)
            ends = [each.not_valid_after_utc.timestamp() for each in (certificate, authority)]
            begins = [each.not_valid_before_utc.timestamp() for each in (certificate, authority)]
            made = Certificate(name, max(begins), min(ends))
            made.identity = self._identity(certificate, made, int(begins[0]))
        except Exception:
            # A parser of a stranger's bytes: whatever it raises, the certificate is none.
            return Certificate(name)
        return made

    def _identity(
        self, certificate: x509.Certificate, made: Certificate, issued: int
    ) -> Identity | None:
        users = _values(certificate, self._user)
        roles = (
            _values(certificate, self._role)
            if self._role in ("subject.OU", "subject.O")
            else [self._role]
        )
        if len(users) != 1 or len(roles) != 1:
            return None  # two names are nobody's
        user, role = field_text(users[0]), field_text(roles[0])
        if user is None or role is None:
            return None
        headers = b"X-User-ID: %s\r\nX-User-Role: %s\r\n" % (user, role)
        claims = {"sub": users[0], "role": roles[0], "x5t#S256": made.thumbprint, "iat": issued}
        return Identity(users[0], roles[0], headers, claims, made.not_before, made.expires)


class Certificate:
    """
    A client's certificate as far as it matters.

    @ivar thumbprint: see L{thumbprint}.
    @ivar not_before: unix seconds between which it, and its authority's, are valid; nothing
        lies between them where no authority of ours has issued it.
    @ivar identity: who that is, where a rule says so.
    """

    __slots__ = ("expires", "identity", "not_before", "thumbprint")

    def __init__(self, name: str, not_before: float = 0.0, expires: float = 0.0) -> None:
        self.thumbprint = name
        self.not_before = not_before
        self.expires = expires
        self.identity: Identity | None = None

    def valid(self, now: float) -> bool:
        """Whether an authority of ours vouches for it now; C{now} is unix seconds."""
        return self.not_before <= now < self.expires


def _for_clients(certificate: x509.Certificate) -> bool:
    """Not an authority's, meant for clients where it says what for, and understood."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            if value.ca:
                return False
        elif isinstance(value, x509.KeyUsage):
            if not value.digital_signature:
                return False
        elif isinstance(value, x509.ExtendedKeyUsage):
            if ExtendedKeyUsageOID.CLIENT_AUTH not in value:
                return False
        elif extension.critical and not isinstance(value, x509.SubjectAlternativeName):
            return False
    return True


def _values(certificate: x509.Certificate, rule: str) -> list[str]:
    """All that a certificate has of what the rule names."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    kind, _, name = rule.partition(".")
    if kind == "subject":
        oids = {
            "CN": NameOID.COMMON_NAME,
            "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
            "O": NameOID.ORGANIZATION_NAME,
        }
        return [
            each.value if isinstance(each.value, str) else ""
            for each in certificate.subject.get_attributes_for_oid(oids[name])
        ]
    if kind != "san":
        return []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    types: dict[str, Any] = {
        "email": x509.RFC822Name,
        "dns": x509.DNSName,
        "uri": x509.UniformResourceIdentifier,
    }
    return list(names.get_values_for_type(types[name]))
