# -*- test-case-name: tests.settings.test_reader -*-
"""
Whose tokens are good: the local key and who is asked about opaque ones: [jwt],
[introspection]. Identity providers have a module of their own (C{issuers}).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.option import (
    DAY,
    TEXT,
    YES_NO,
    Declared,
    Option,
    duration,
    integer,
    several,
    size,
)
from gateway.settings.secret import Secret

ALGORITHMS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """
    [jwt]. One of C{secret} and C{public_key} is there, unless there are issuers.

    @ivar key_file: where it was read from; empty: it stands in the configuration.
    """

    algorithms: tuple[str, ...]
    secret: Secret | None
    public_key: bytes | None
    issuer: str
    audience: str
    leeway: float
    require_exp: bool
    role_claim: str
    default_role: str
    cache: int
    cache_size: int
    key_file: str = ""

    @property
    def has_key(self) -> bool:
        """Whether there is a local key; without one all tokens are issuers'."""
        return self.secret is not None or self.public_key is not None


@dataclass(frozen=True, slots=True)
class IntrospectionSettings:
    """
    [introspection].

    @ivar signers: certificates in PEM; empty: the system's.
    """

    url: str
    client_id: str
    client_secret: Secret
    issuer: str
    signers: bytes
    timeout: float
    cache_for: float
    refused_for: float
    cache: int
    pending: int
    failures: int
    reset_after: float


JWT: Declared = ("Who may come in: tokens, and the key they are verified with.", (
    Option("algorithms", several(ALGORITHMS, "algorithms"), "HS256",
           "What a token may be signed with; one key, one family: HS*, RS* and PS*, ES*, EdDSA. "
           "A token's own header never chooses.", "RS256", per_route=False),
    Option("secret", TEXT, "",
           "For HS*: at least 32 bytes (HS384 48, HS512 64) that nobody else knows, best as "
           "${NAME} from the environment.", "${JWT_SECRET}", per_route=False, secret=True),
    Option("secret_file", TEXT, "",
           "A file with the secret instead; one final newline does not count.",
           "/etc/gateway/jwt.secret", per_route=False),
    Option("public_key_file", TEXT, "",
           "For RS*, PS*, ES*, EdDSA: the public key in PEM.", "issuer.pem", per_route=False),
    Option("issuer", TEXT, "", "What iss must be, exactly. Default: not looked at.",
           "https://login.example"),
    Option("audience", TEXT, "",
           "What aud must be, or contain, exactly. Default: not looked at.", "orders-api"),
    Option("leeway", duration(0, 3600), "0s",
           "By how much the issuer's clock may differ, for exp and nbf.", "5s"),
    Option("require_exp", YES_NO, "yes", "Whether a token without exp is refused.", "no",
           "A token without exp is good for ever."),
    Option("role_claim", TEXT, "role",
           "The claim that becomes X-User-Role; a dot reaches into objects.",
           "realm_access.role"),
    Option("default_role", TEXT, "user", "The role of a token without that claim.", "guest"),
    Option("cache", integer(0, 10_000_000), "100000",
           "Verified tokens kept, so that their signature need not be checked again; exp and "
           "nbf always are. Tokens over 4 KiB are not kept.", per_route=False),
    Option("cache_size", size(0, 1 << 34), "64MiB", "What they may take of memory.",
           per_route=False),
))  # fmt: skip

INTROSPECTION: Declared = ("Who is asked about opaque tokens (RFC 7662), if url is set.", (
    Option("url", TEXT, "",
           "Where to ask: https unless on this machine. Never asked about: a token of a known "
           "[issuer], and any JWT where [jwt] has a key. Default: nowhere.",
           "https://login.example/introspect"),
    Option("client_id", TEXT, "", "Who the gateway is there (HTTP Basic).", "gateway"),
    Option("client_secret", TEXT, "", "And its secret, best as ${NAME} from the environment.",
           "${INTROSPECTION_SECRET}", secret=True),
    Option("client_secret_file", TEXT, "",
           "A file with the secret instead; one final newline does not count.",
           "/etc/gateway/introspection.secret"),
    Option("issuer", TEXT, "", "What iss must be in its answers, exactly. Default: not looked at.",
           "https://login.example"),
    Option("ca_file", TEXT, "",
           "Certificates (PEM) that sign its server's. Default: the system's.", "ca.pem"),
    Option("timeout", duration(0.05, 60), "3s", "For one answer; 503 then."),
    Option("cache_for", duration(1, DAY), "60s",
           "How long a token that is good is not asked about again, its own expiry at most. A "
           "token that is revoked there is good here for so long."),
    Option("refused_for", duration(1, 3600), "5s", "The same for one that is not good."),
    Option("cache", integer(100, 10_000_000), "10000",
           "Answers kept; a token that is good is also kept as [jwt] cache says."),
    Option("pending", integer(1, 100_000), "100",
           "Tokens that may be asked about at once; 503 beyond. Requests with the same token share "
           "one question."),
    Option("failures", integer(1, 1_000_000), "5",
           "Consecutive failures to answer, after which nobody is asked (503),"),
    Option("reset_after", duration(0.1, DAY), "10s",
           "for so long; then one question is the trial."),
))  # fmt: skip
