# -*- test-case-name: tests.settings.test_proofs -*-
"""
The options of other credentials than a bearer token, and of proofs that a token is its
sender's: [apikeys], [dpop], [mtls].
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.settings.option import (
    DAY,
    FIELD_NAME,
    TEXT,
    YES_NO,
    Declared,
    Option,
    Type,
    choice,
    duration,
    integer,
    several,
)
from gateway.settings.secret import Secret

#: What a proof may be signed with: no shared secret proves who sends (RFC 9449 section 4.3).
PROOF_ALGORITHMS = (
    "ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
)  # fmt: skip

#: Kinds of credentials, for a route's C{auth}.
CREDENTIALS = ("jwt", "apikey", "mtls")


@dataclass(frozen=True, slots=True)
class ApiKeySettings:
    """[apikeys]. An empty C{file}: there are none."""

    file: str
    header: str


@dataclass(frozen=True, slots=True)
class DpopSettings:
    """[dpop]. C{nonce_secret} is there where C{nonce} is."""

    mode: str
    algorithms: tuple[str, ...]
    lifetime: float
    leeway: float
    nonce: bool
    nonce_lifetime: float
    nonce_secret: Secret | None
    replays: int


@dataclass(frozen=True, slots=True)
class MtlsSettings:
    """[mtls]. C{authorities}: the text of C{ca_file}; empty: there is none."""

    mode: str
    ca_file: str
    user: str
    role: str
    header: str
    authorities: bytes = field(default=b"", repr=False)


def _header(text: str) -> str:
    return FIELD_NAME.parse(text) if text else ""


APIKEYS: Declared = ("Keys instead of tokens, for those who can't get any.", (
    Option("file", TEXT, "",
           "The file that knows them by their SHA-256, one line a key; made and changed by "
           "gateway key add, list and revoke, relative to this file, and read again within a "
           "second when it changes. Default: no API keys.", "keys.txt", per_route=False),
    Option("header", FIELD_NAME, "X-API-Key",
           "The field in which a key comes; never forwarded, in any spelling. A request with "
           "both a key and a token is refused with 400.", "Api-Key", per_route=False),
))  # fmt: skip

DPOP: Declared = ("Proofs that who sends a token is who got it (DPoP, RFC 9449).", (
    Option("mode", choice("off", "accept", "require"), "off",
           "accept: tokens may come as Authorization: DPoP with a proof beside those that come "
           "as Bearer. require: only so. Whatever it says, a token that is bound to a key "
           "(cnf.jkt) is refused without its proof.", "accept"),
    Option("algorithms", several(PROOF_ALGORITHMS, "algorithms"),
           "ES256, ES384, EdDSA, PS256, RS256",
           "What a proof may be signed with.", "ES256", per_route=False),
    Option("lifetime", duration(1, 3600), "60s",
           "How old a proof may be, by its iat. No proof is taken twice in that time.", "30s",
           per_route=False),
    Option("leeway", duration(0, 300), "5s",
           "By how much a proof's iat may lie ahead.", "1s", per_route=False),
    Option("nonce", YES_NO, "no",
           "Whether a proof must contain a nonce of the gateway's, so that none can be made in "
           "advance. Clients learn it from DPoP-Nonce and try again.", "yes", per_route=False),
    Option("nonce_lifetime", duration(10, DAY), "5m",
           "How long a nonce is handed out; it is good for at most twice as long.", "1m",
           per_route=False),
    Option("nonce_secret", TEXT, "",
           "What nonces are made of: at least 32 bytes, the same on every machine. "
           "Default: made of [jwt] secret.", "${NONCE_SECRET}", per_route=False, secret=True),
    Option("replays", integer(100, 100_000_000), "100000",
           "Proofs remembered, about 300 bytes each, so that none is taken twice; an eighth of "
           "them for one user at most. When full, requests with new ones get 503. With a "
           "shared store they are remembered there.", "1000000", per_route=False),
))  # fmt: skip

MTLS: Declared = ("Certificates of clients, as who they are or as a second proof.", (
    Option("mode", choice("off", "accept", "require"), "off",
           "accept: certificates are looked at. require: nobody comes in without one of "
           "ca_file's, whatever token or key they have. Whatever it says, a token that is "
           "bound to a certificate (cnf.x5t#S256, RFC 8705) is refused without it.", "accept"),
    Option("ca_file", TEXT, "",
           "The certificates (PEM) of the authorities that issue clients' certificates, each "
           "directly. Needed for require and for user.", "clients-ca.pem", per_route=False),
    Option("user", choice("none", "subject.CN", "san.email", "san.dns", "san.uri"), "none",
           "What of a certificate says who calls, when no token or key came; there must be "
           "exactly one of it. none: a certificate alone lets nobody in.", "san.uri",
           per_route=False),
    Option("role", TEXT, "",
           "The role of who comes by certificate: subject.OU, subject.O, or the role itself. "
           "Default: [jwt] default_role.", "subject.OU", per_route=False),
    Option("header", Type(_header, "the name of a header field, or nothing"), "",
           "The field in which trusted_proxies tell their clients' certificates: Client-Cert "
           "(RFC 9440), or one with URL-encoded PEM, such as nginx's "
           "$ssl_client_escaped_cert. Never forwarded, and never believed from anybody else. "
           "Default: none.", "X-Client-Cert",
           "The proxy must drop its clients' own copies, and must have verified that they "
           "have the certificate's key.", per_route=False),
))  # fmt: skip

#: For [route].
AUTH = Option("auth", several(CREDENTIALS, "a list of jwt, apikey, mtls", least=0), "",
              "Which credentials the route takes. Default: all that are configured.",
              "apikey")  # fmt: skip


def dpop_loosened(here: DpopSettings, there: DpopSettings) -> list[str]:
    """What a route's proofs let pass that the common ones don't."""
    weaker = there.mode == "require" != here.mode
    return ["tokens pass without a DPoP proof"] if weaker else []


def mtls_loosened(here: MtlsSettings, there: MtlsSettings) -> list[str]:
    """The same of certificates."""
    weaker = there.mode == "require" != here.mode
    return ["clients pass without a certificate"] if weaker else []
