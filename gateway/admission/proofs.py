# -*- test-case-name: tests.admission.test_presented -*-
"""
What is configured beside bearer tokens, and what came with one: handed from the stage that
reads it (L{gateway.admission.presented}) to the one that judges it
(L{gateway.admission.proven}). Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.admission.certificates import Certificate, CertificateRules
    from gateway.admission.dpop import ProofRules
    from gateway.admission.identity import Identity
    from gateway.admission.replays import Replays
    from gateway.keywatch import KeyFile
    from gateway.verdicts import Refused


@dataclass(frozen=True, slots=True)
class Proofs:
    """
    What is configured beside bearer tokens.

    @ivar key_header: the field of API keys, in lower case.
    @ivar certificate_header: the field in which trusted proxies tell of certificates, in lower
        case; empty: there is none.
    @ivar revoked: asked at each request by key or certificate; says why it is not good all the
        same.
    """

    keys: KeyFile | None = None
    key_header: bytes = b""
    certificates: CertificateRules | None = None
    certificate_header: bytes = b""
    dpop: ProofRules | None = None
    replays: Replays | None = None
    revoked: Callable[[bytes, Identity], Refused | None] | None = None

    @property
    def fields(self) -> frozenset[bytes]:
        """Fields because of which a request is not an ordinary one."""
        return frozenset(name for name in (self.key_header, b"dpop" if self.dpop else b"") if name)


class Presentation:
    """
    What came with a token.

    @ivar proofs: the values of the DPoP fields, where the token came as DPoP; else C{None}.
    @ivar token: the raw token, where it did.
    @ivar certificate: of the client.
    """

    __slots__ = ("certificate", "proofs", "token")

    def __init__(self, certificate: Certificate | None) -> None:
        self.certificate = certificate
        self.proofs: list[bytes] | None = None
        self.token = b""
