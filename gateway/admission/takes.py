# -*- test-case-name: tests.admission.test_takes -*-
"""
Which credentials and proofs a route takes, as it was configured: lets the express lane know
whether a bearer token alone may do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.admission.claim_headers import ClaimHeaders

#: What a certificate alone is challenged with; there is no registered scheme.
_CERTIFICATE = b'WWW-Authenticate: Certificate realm="gateway"\r\n'
_BEARER = b'WWW-Authenticate: Bearer realm="gateway"\r\n'
_KEY = b'WWW-Authenticate: ApiKey realm="gateway"\r\n'


@dataclass(frozen=True, slots=True, eq=False)
class Takes:
    """
    What a route takes.

    @ivar tokens: bearer tokens, or those with a proof.
    @ivar keys: API keys.
    @ivar certificates: certificates as the identity.
    @ivar dpop: C{off}, C{accept} or C{require}.
    @ivar mtls: the same of certificates beside something else.
    @ivar claim_headers: the claims of keys and certificates that the service gets.
    @ivar algs: of proofs, as a parameter of the challenge.
    @ivar plain: whether a token that is bound to nobody may come without anything else.
    @ivar challenges: header lines for who comes with nothing.
    """

    tokens: bool = True
    keys: bool = False
    certificates: bool = False
    dpop: str = "off"
    mtls: str = "off"
    algs: bytes = b""
    claim_headers: ClaimHeaders | None = None
    plain: bool = field(init=False)
    challenges: bytes = field(init=False)

    def __post_init__(self) -> None:
        plain = self.tokens and self.dpop != "require" and self.mtls != "require"
        object.__setattr__(self, "plain", plain)
        lines = b""
        if self.tokens and self.dpop != "require":
            lines += _BEARER
        if self.tokens and self.dpop != "off":
            lines += b'WWW-Authenticate: DPoP realm="gateway", %s\r\n' % self.algs
        if self.keys:
            lines += _KEY
        object.__setattr__(self, "challenges", lines or _CERTIFICATE)


#: Where nothing but bearer tokens is configured.
BEARER_ONLY = Takes()
