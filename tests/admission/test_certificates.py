"""Tests for gateway.admission.certificates: the published example of RFC 8705, and whose certificates are believed."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.certificates import (
    UNREADABLE,
    Authorities,
    CertificateRules,
    der_of,
    thumbprint,
    told,
)
from tests.admission.proofs import Authority, Issued, name_of

#: RFC 8705 appendix A, figure 6, and the thumbprint in figure 5.
EXAMPLE = """-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
"""
THUMBPRINT = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"
NOW = time.time()

ours, theirs = Authority(), Authority()
alice = ours.issue(name_of(CN="alice", OU="admin"), x509.RFC822Name("alice@example.org"), x509.DNSName("a.example"),
                   x509.UniformResourceIdentifier("spiffe://example.org/alice"))  # fmt: skip


def rules(user: str = "subject.CN", role: str = "staff", pem: bytes = b"") -> CertificateRules:
    """Rules that believe our authority."""
    return CertificateRules(Authorities(pem or ours.pem), user, role)


def user(issued: Issued, now: float = NOW, **more: Any) -> str | None:
    """Who that is."""
    found = rules(**more).look(issued.der)
    if found.identity is None or not found.valid(now):
        return None
    return found.identity.user


def test_published_example() -> None:
    """The certificate of RFC 8705 appendix A has the thumbprint that its token names, in either header's form."""
    der = der_of(quote(EXAMPLE, safe="").encode())
    assert der is not None
    assert thumbprint(der) == THUMBPRINT
    assert told([b":" + b64encode(der) + b":"]) == der
    assert CertificateRules(None).look(der).thumbprint == THUMBPRINT
    assert not CertificateRules(None).look(der).valid(1_560_000_000.0)


@pytest.mark.parametrize("value", [quote(alice.pem), quote(alice.pem, safe=""), alice.pem.decode().replace("\n", "%0A")])
def test_escaped_pem(value: str) -> None:
    """PEM is read as nginx escapes it, and fully escaped; a plus sign is itself."""
    assert der_of(value.encode()) == alice.der


@pytest.mark.parametrize("values", [[b"x"], [b"::"], [b":AAA:"], [b":" + b"A" * 40000 + b":"], [b":AAAA:", b":AAAA:"], [quote_plus(alice.pem).encode()[:-9]],
                                    [quote(alice.pem + alice.pem).encode()]])  # fmt: skip
def test_headers_that_cannot_be_read(values: list[bytes]) -> None:
    """A proxy's header that holds no single certificate is not guessed at."""
    assert told(values) is UNREADABLE


def test_no_certificate() -> None:
    """A proxy that sends nothing, or an empty value, has a client without a certificate."""
    assert told([]) is None
    assert told([b""]) is None


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """Whatever a header or a certificate holds, nothing breaks, and it is nobody."""
    der_of(raw)
    found = rules().look(raw)
    assert found.identity is None
    assert not found.valid(NOW)


@pytest.mark.parametrize(
    ("rule", "name"),
    [("subject.CN", "alice"), ("san.email", "alice@example.org"), ("san.dns", "a.example"), ("san.uri", "spiffe://example.org/alice"), ("none", None)],
)
def test_who_it_is(rule: str, name: str | None) -> None:
    """The rule says which of its names is the user."""
    assert user(alice, user=rule) == name


def test_roles() -> None:
    """The role is the certificate's unit, or the rule's own word; who has no unit is nobody then."""
    for role, found in (("subject.OU", "admin"), ("staff", "staff")):
        identity = rules(role=role).look(alice.der).identity
        assert identity is not None
        assert (identity.role, identity.headers.split(b"\r\n")[1]) == (found, f"X-User-Role: {found}".encode())
        assert identity.claims["x5t#S256"] == alice.thumbprint
        assert "cnf" not in identity.claims
    assert user(alice, role="subject.O") is None


def test_two_names_are_nobody_s() -> None:
    """A certificate with two users in it, or none, names nobody; nor one whose name no header could carry."""
    assert user(ours.issue(name_of(CN=["alice", "root"]))) is None
    assert user(ours.issue(name_of(O="x"))) is None
    assert user(ours.issue(name_of(CN="a\nb"))) is None
    two = ours.issue(name_of(CN="a"), x509.DNSName("a.example"), x509.DNSName("b.example"))
    assert user(two, user="san.dns") is None


@pytest.mark.parametrize(
    "issued",
    [
        theirs.issue(name_of(CN="alice")), ours.issue(name_of(CN="alice"), ends=-1), ours.issue(name_of(CN="alice"), begins=60),
        ours.issue(name_of(CN="alice"), usage=ExtendedKeyUsageOID.SERVER_AUTH), ours.issue(name_of(CN="alice"), critical=True),
    ],
    ids=["a stranger's authority of the same name", "expired", "not yet valid", "for servers only", "with an unknown critical extension"],
)  # fmt: skip
def test_not_believed(issued: Issued) -> None:
    """Only what our authority has issued to a client, and what is valid now, says who somebody is."""
    found = rules().look(issued.der)
    assert not found.valid(NOW)
    assert found.thumbprint == issued.thumbprint
    assert user(issued) is None


def test_validity_is_looked_at_each_time() -> None:
    """A certificate that is known is refused once it, or its authority, has expired."""
    found = rules()
    assert found.look(alice.der).valid(NOW)
    assert not found.look(alice.der).valid(NOW + 3700)
    short = Authority("short", ends=10)
    issued = short.issue(name_of(CN="alice"))
    assert rules(pem=short.pem).look(issued.der).expires <= time.time() + 11


def test_a_client_is_no_authority() -> None:
    """A certificate that a client has signed with its own is not believed, nor is the client's own taken as an authority."""
    leaf = Authority("leaf", ca=False)
    with pytest.raises(ValueError, match="no authority"):
        Authorities(leaf.pem)
    assert user(leaf.issue(name_of(CN="root"))) is None


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_authorities(pem: bytes) -> None:
    """A file that holds no certificate is refused when it is read."""
    with pytest.raises(ValueError, match="no certificates"):
        Authorities(pem)


def test_several_authorities() -> None:
    """Each authority in the file is believed, those of one name too."""
    both = ours.pem + theirs.pem
    assert user(alice, pem=both) == "alice"
    assert user(theirs.issue(name_of(CN="bob")), pem=both) == "bob"


def test_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates of many clients don't pile up."""
    monkeypatch.setattr("gateway.admission.certificates._MEMO", 3)
    found = rules()
    for number in range(9):
        found.look(b"%d" % number)
    assert len(found._known) <= 3
