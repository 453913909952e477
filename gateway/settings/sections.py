# -*- test-case-name: tests.settings.test_sections -*-
"""
Every option of every section but the routes': declared here, once, in the manual's order.

The dataclasses are what the rest of the gateway sees: values, not text. Seconds are
floats, sizes are bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hmac import compare_digest

from gateway.settings.limits import COST_TYPE, LIMIT, WINDOW, WINDOWS
from gateway.settings.option import (
    FIELD_NAME,
    LIST,
    TEXT,
    TOKENS,
    YES_NO,
    BadValue,
    Option,
    Type,
    choice,
    duration,
    integer,
    network_list,
    size,
    words,
)
from gateway.settings.proofs import PROOF_SECTIONS
from gateway.stores.url import StoreAddress, parse_url

ALGORITHMS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip

_DAY = 86400.0


class Secret:
    """Bytes that never show themselves."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "<secret>"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """[gateway]."""

    name: str
    listen: tuple[str, ...]
    workers: int
    edge: str
    trusted_proxies: tuple[str, ...]
    client_address_header: str
    max_connections: int
    max_connections_per_ip: int
    max_requests_in_flight: int
    max_request_line: int
    max_head: int
    max_fields: int
    header_timeout: float
    body_timeout: float
    send_timeout: float
    idle_timeout: float
    shutdown_grace: float
    worker_timeout: float
    cpu_affinity: str
    revocations: str


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


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """
    [ratelimit], or what holds of it for a route or a plan.

    @ivar limits: (limit, seconds) of each window, the shortest first; empty: there is one, of
        C{limit} and C{window}.
    @ivar costs: (method, cost) where it is not C{cost}.
    @ivar refused: as C{limits}; empty: no such limit.
    @ivar store: C{memory}, or the address of a shared one.
    """

    limit: int
    window: float
    limits: tuple[tuple[int, float], ...]
    algorithm: str
    burst: int
    key: str
    cost: int
    costs: tuple[tuple[str, int], ...]
    plan_claim: str
    keys: int
    refused: tuple[tuple[int, float], ...]
    refused_keys: int
    ietf_headers: bool
    store: str | StoreAddress
    store_timeout: float
    store_connections: int
    store_ca_file: str
    on_store_failure: str
    machines: int
    mode: str

    @property
    def windows(self) -> tuple[tuple[int, float], ...]:
        """(limit, seconds) of each window."""
        return self.limits or ((self.limit, self.window),)


@dataclass(frozen=True, slots=True)
class IpSettings:
    """[ip]."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    mode: str


@dataclass(frozen=True, slots=True)
class CorsSettings:
    """[cors]."""

    enabled: bool
    allow_origin: tuple[str, ...]
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    max_age: int


@dataclass(frozen=True, slots=True)
class BodySettings:
    """[body]."""

    max_size: int
    mode: str


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """[breaker]."""

    failures: int
    reset_after: float
    statuses: tuple[int, ...]
    mode: str


@dataclass(frozen=True, slots=True)
class RequireSettings:
    """[require]."""

    mode: str


@dataclass(frozen=True, slots=True)
class HeadersSettings:
    """[headers]. C{claims}: (field, claim)."""

    max_value: int
    claims: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """[upstream]."""

    connect_timeout: float
    response_timeout: float
    read_timeout: float
    connections: int
    queue: int
    queue_timeout: float
    idle_connections: int
    idle_timeout: float
    ca_file: str


@dataclass(frozen=True, slots=True)
class AssertionSettings:
    """
    [assertion].

    @ivar default: C{no}, C{user} or C{request}.
    @ivar keys: PEM of the keys in the files, that which signs first.
    @ivar given: whether one of these signs; else the one in the file C{generated}.
    @ivar generated: made where there is none; empty: not kept at all.
    """

    default: str
    keys: Secret | None
    given: bool
    generated: str
    issuer: str
    lifetime: float


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """[audit]. C{retention} in days, 0 for ever."""

    database: str
    batch: int
    flush_interval: float
    queue: int
    retention: int


def _affinity(text: str) -> str:
    if text in ("no", "yes"):
        return text
    found = words(text)
    if not found or any(re.fullmatch("[0-9]{1,4}", word) is None for word in found):
        raise BadValue("no, yes, or numbers of processors such as 2, 3")
    return ",".join(found)


def _origins(text: str) -> tuple[str, ...]:
    found = words(text)
    if not found or ("*" in found and len(found) > 1):
        raise BadValue("*, or origins such as https://app.example, not both")
    for origin in found:
        scheme, separator, rest = origin.partition("://")
        if origin != "*" and (
            scheme not in ("http", "https")
            or not separator
            or not rest
            or not rest.isascii()
            or any(c in rest for c in "/?#@*")
        ):
            raise BadValue(f"origins such as https://app.example without a path, not {origin}")
    return found


def _statuses(text: str) -> tuple[int, ...]:
    found = words(text)
    if any(not word.isdigit() or not 400 <= int(word) <= 599 for word in found):
        raise BadValue("a list of statuses from 400 to 599")
    return tuple(int(word) for word in found)


def _algorithms(text: str) -> tuple[str, ...]:
    found = words(text)
    unknown = [word for word in found if word not in ALGORITHMS]
    if not found or unknown:
        raise BadValue("one or more of " + ", ".join(ALGORITHMS))
    return found


def _listen(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise BadValue("a name of at most 64 letters, digits, dots, dashes")
    return text


def _store(text: str) -> str | StoreAddress:
    if text in ("auto", "memory", "embedded"):
        return text
    try:
        return parse_url(text)
    except ValueError as error:
        raise BadValue(f"auto, memory, embedded, {error}") from None


#: The names of those that are no [issuer NAME]: the local key, and who is asked.
LOCAL, ASKED = "jwt", "introspection"
#: The mode in which a gate only says what it would refuse.
SHADOW = "shadow"


def _mode(gate: str) -> Option:
    return Option("mode", choice("enforce", SHADOW), "enforce",
                  f"shadow: {gate} passes, and is audited (detail: shadow:REASON) and counted as "
                  "what would have been refused.", SHADOW,
                  "In shadow mode nothing is refused here.")  # fmt: skip


SECTIONS: dict[str, tuple[str, tuple[Option, ...]]] = {
    "gateway": ("Where it listens, and the bounds of its clients' connections.", (
        Option("listen", Type(_listen, "Twisted endpoint strings, one a line"), "tcp:8080",
               "Where to listen: Twisted endpoint strings, one a line: tcp:PORT[:interface=ADDRESS], "
               "unix:PATH, systemd:domain=INET:index=0.",
               "tcp:8443:interface=10.0.0.1"),
        Option("name", Type(_name, "a name"), "gateway",
               "What this gateway is called in a shared store: those of one name share counters, "
               "circuits and revocations; those of another share nothing.", "shop", restart=True),
        Option("workers", integer(1, 1024, {"auto": 0}), "1",
               "Processes that serve; auto: one for each processor. More than one have a "
               "supervisor, which shares the listeners among them, restarts one that dies, and "
               "takes more or fewer at a reload (from or to a single process: by SIGUSR2).", "auto"),
        Option("edge", TEXT, "",
               "What /health calls this place. Default: the host's name.", "fra1"),
        Option("trusted_proxies", network_list(unix=True), "",
               "Networks (or unix) of the proxies before the gateway, whose client_address_header "
               "is believed. Default: nobody, so a client is whoever connects.", "10.0.0.0/8, unix",
               "Whoever can connect from there can claim any address."),
        Option("client_address_header", FIELD_NAME, "X-Forwarded-For",
               "The one field in which trusted proxies name the client: X-Forwarded-For, Forwarded, "
               "or one with a single address in it. Others of the kind are dropped.",
               "CF-Connecting-IP"),
        Option("max_connections", integer(1, 10_000_000), "20000",
               "Open connections of clients; when reached, no more are accepted until one ends."),
        Option("max_connections_per_ip", integer(0, 10_000_000), "0",
               "The same for one address; its further connections are closed. 0: no limit. "
               "Behind a proxy all clients have its address.", "200"),
        Option("max_requests_in_flight", integer(0, 10_000_000), "0",
               "Requests that may be under way at once; 503 with Retry-After beyond, so that a "
               "slow upstream's crowd does not slow everybody. 0: no limit. Preflights, /health and "
               "refusals of strangers never count.", "5000"),
        Option("max_request_line", size(256, 1 << 20), "8KiB", "414 beyond.", "16KiB"),
        Option("max_head", size(1024, 1 << 20), "32KiB", "431 beyond, as for max_fields.", "64KiB"),
        Option("max_fields", integer(1, 10_000), "100", "Header fields of a request; 431 beyond.",
               "200"),
        Option("header_timeout", duration(0.1, _DAY), "10s",
               "For the head of a request, from its first byte (or the connection's begin); 408."),
        Option("body_timeout", duration(0.1, _DAY), "60s",
               "For a body that makes no progress; 408."),
        Option("send_timeout", duration(0.1, _DAY), "60s",
               "For a client that takes nothing of its answer; the connection is cut."),
        Option("idle_timeout", duration(0.1, _DAY), "75s",
               "For a connection between two requests; closed."),
        Option("shutdown_grace", duration(0, _DAY), "30s",
               "What is in flight at SIGTERM may take so long; then it is cut. Silent connections are "
               "closed then."),
        Option("worker_timeout", duration(2, 600), "10s",
               "Where there are several workers: one that has not beaten for so long (it does "
               "every second) is killed and replaced."),
        Option("cpu_affinity", Type(_affinity, "no, yes, or numbers of processors"), "no",
               "Where there are several workers: yes binds each to a processor of its own, in "
               "turn; a list such as 2, 3, 4 to those. Worth it where nothing else runs.", "yes"),
        Option("revocations", TEXT, "",
               "Where gateway revoke keeps what is no longer good; relative to $STATE_DIRECTORY or the "
               "working directory. Default: NAME-revocations there.", "/var/lib/gateway/revocations",
               restart=True),
    )),
    "jwt": ("Who may come in: tokens, and the key they are verified with.", (
        Option("algorithms", Type(_algorithms, "algorithms"), "HS256",
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
    )),
    "introspection": ("Who is asked about opaque tokens (RFC 7662), if url is set.", (
        Option("url", TEXT, "", "Where to ask: https unless on this machine. Never asked about: a token of a known "
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
        Option("cache_for", duration(1, _DAY), "60s",
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
        Option("reset_after", duration(0.1, _DAY), "10s", "for so long; then one question is the trial."),
    )),
    **PROOF_SECTIONS,
    "ratelimit": ("How much a user may ask for.", (
        Option("limit", LIMIT, "100", "Requests in a window.", "1000"),
        Option("window", WINDOW, "60s", "The window.", "1h"),
        Option("limits", WINDOWS, "",
               "Several windows at once, instead of limit and window: a request passes only if "
               "each has room, and then counts in each; a refused one counts in none. "
               "X-RateLimit-* tells of the window that refuses (the one that has room last), else "
               "of the one with the least remaining. Default: limit and window alone.",
               "10/1s, 100/60s, 5000/1d"),
        Option("algorithm", choice("sliding-window", "fixed-window", "gcra"), "sliding-window",
               "sliding-window: no span of window seconds, wherever it begins, lets more than limit "
               "pass. fixed-window: limit in each window of the clock, so up to twice that across a "
               "boundary. gcra: one every window/limit, burst at once: at most burst + "
               "span*limit/window in any span."),
        Option("burst", LIMIT, "10", "gcra only: how many at once, in each window."),
        Option("key", TEXT, "sub",
               "Whose requests are counted together: a claim of the token, or ip (IPv6 by /64). A "
               "token without that claim is refused.", "tenant"),
        Option("cost", COST_TYPE, "1",
               "How many requests one counts as; cost.METHOD (cost.POST = 5) where a method's "
               "is another. A route with a cost of its own and no other ratelimit option "
               "still counts in the common counter; costs of its own replace all common ones.",
               "5"),
        Option("plan_claim", TEXT, "",
               "The claim that names the token's plan: [plan gold] holds for a token whose claim "
               "says gold, with a counter of its own for each plan. Without the claim, or with "
               "one that no section names, the common limit holds; a route with a limit of its "
               "own keeps it whatever the plan. Default: no plans.", "plan", per_route=False),
        Option("keys", integer(1, 100_000_000), "1000000",
               "Counters kept in memory, about 250 bytes each. When full, a new key is refused and "
               "counted; no live one is forgotten.", per_route=False),
        Option("refused", WINDOWS, "",
               "How many refused tokens an address may send (IPv6 by /64). Beyond that, its tokens "
               "that have not been verified before get 429 unverified until the window has "
               "room again; those in the cache of verified tokens go on. Counted in each process "
               "by itself, always as sliding windows. Default: no such limit.", "30/60s",
               per_route=False),
        Option("refused_keys", integer(1, 100_000_000), "100000",
               "Addresses with refused tokens remembered. When full, those of a new address are "
               "verified and not counted.", per_route=False),
        Option("ietf_headers", YES_NO, "yes",
               "Whether answers have RateLimit and RateLimit-Policy "
               "(draft-ietf-httpapi-ratelimit-headers) beside X-RateLimit-*.", "no",
               per_route=False),
        Option("store", Type(_store, "auto, memory, embedded, or a URL"), "auto",
               "Where counters live. memory: in this process. embedded: in a Valkey of the "
               "gateway's own, for several workers. auto: memory for one worker, embedded for "
               "more. Or a Redis or Valkey that several machines share: redis://HOST:6379/0, "
               "rediss:// with TLS, unix:///PATH?db=0, redis+sentinel://HOST,HOST/SERVICE/0, each "
               "with USER:PASSWORD@ or :PASSWORD@ before the host, percent-encoded.",
               "rediss://gateway:${STORE_PASSWORD}@valkey.internal",
               "One server's time and memory serve all: a cluster serves as one shard. Who can "
               "write there sets everybody's limits: give it a password, and TLS across a "
               "network.", per_route=False, restart=True, secret=True),
        Option("store_timeout", duration(0.005, 10), "50ms",
               "A request whose count does not come in time is decided by on_store_failure; so are "
               "those after it, at once, until the store answers again.", "20ms", per_route=False, restart=True),
        Option("store_connections", integer(1, 64), "1",
               "Connections to the store from each process. All requests of a moment share one "
               "call, so one is enough unless the network is slow.", "2", per_route=False, restart=True),
        Option("store_ca_file", TEXT, "",
               "rediss:// only: PEM file of the authorities that may vouch for the store's host "
               "name. Default: the system's.", "/etc/ssl/internal-ca.pem", per_route=False, restart=True),
        Option("on_store_failure", choice("local", "open", "closed"), "local",
               "While the store can't be asked: local counts in this process, inexactly, with its "
               "share of the limit (see machines); open lets everything pass; closed refuses with "
               "503. The audit's reason tells of each request so decided. Memory never fails."),
        Option("machines", integer(1, 1000), "1",
               "How many machines share the store. While it can't be asked and on_store_failure "
               "is local, each process lets its share pass: limit divided by workers and machines, "
               "at least 1. Of no use without a shared store.", "3", per_route=False),
        _mode("what exceeds a limit, or can't be counted,"),
    )),
    "ip": ("From where.", (
        Option("allow", network_list(), "", "Networks that may come in. Default: everyone.",
               "10.0.0.0/8, 2001:db8::/32"),
        Option("deny", network_list(), "", "Networks that may not, whatever allow says.",
               "10.66.0.0/16"),
        _mode("who comes from elsewhere"),
    )),
    "require": ("Whether what routes ask of those who call (methods, require.*) is enforced.", (
        _mode("who does not meet it"),
    )),
    "headers": ("Claims that services get as header fields.", (
        Option("max_value", size(64, 32 << 10), "4KiB",
               "A field's value as it is sent; a token with a longer one is refused (401).",
               "8KiB"),
    )),
    "cors": ("What browsers are told.", (
        Option("enabled", YES_NO, "yes",
               "Whether OPTIONS is answered here, without a token; else it is a request like any "
               "other."),
        Option("allow_origin", Type(_origins, "origins"), "*",
               "*, or the origins whose scripts may read answers; the matching one is echoed.",
               "https://app.example, https://admin.example"),
        Option("allow_methods", TOKENS, "GET, POST, PUT, DELETE, OPTIONS", "Told to preflights."),
        Option("allow_headers", TOKENS, "Authorization, Content-Type", "Told to preflights."),
        Option("expose_headers", TOKENS,
               "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID",
               "Fields of answers that scripts may read."),
        Option("max_age", integer(0, 31_536_000), "86400",
               "Seconds a browser may remember a preflight."),
    )),
    "body": ("How large a request's body may be.", (
        Option("max_size", size(0, 1 << 50), "10MiB", "413 beyond, also for chunked bodies.",
               "100MiB"),
        _mode("a larger body"),
    )),
    "breaker": ("When an upstream that fails is left alone.", (
        Option("failures", integer(1, 1_000_000), "5",
               "Consecutive ones that open its circuit: refused or broken connections, time-outs, "
               "and the statuses below."),
        Option("reset_after", duration(0.1, _DAY), "30s",
               "How long it stays open (503); then one request is let through on trial."),
        Option("statuses", Type(_statuses, "a list of statuses"), "502, 503, 504",
               "Answers that count as failures. 500 is not among them: one user's crashing request "
               "must not close a service for all."),
        _mode("what an open circuit would keep back"),
    )),
    "upstream": ("Connections to the services behind.", (
        Option("connect_timeout", duration(0.05, 600), "5s", "For a new connection; 504."),
        Option("response_timeout", duration(0.05, _DAY), "60s",
               "From the request's last byte to the head of the answer; 504."),
        Option("read_timeout", duration(0.05, _DAY), "60s",
               "Between the answer's bytes; the client's connection is cut."),
        Option("connections", integer(1, 1_000_000), "256", "To one target; more requests wait,"),
        Option("queue", integer(0, 10_000_000), "1024", "so many of them at most,"),
        Option("queue_timeout", duration(0.05, 600), "5s", "for so long; then 503."),
        Option("idle_connections", integer(0, 1_000_000), "64", "Kept open between requests."),
        Option("idle_timeout", duration(0.1, _DAY), "60s",
               "For how long. Less than the upstream's own keep-alive time-out is best."),
        Option("ca_file", TEXT, "",
               "Certificates (PEM) that sign https upstreams'. Default: the system's.", "ca.pem"),
    )),
    "assertion": ("The gateway's own word to upstreams on who calls, signed, in X-Gateway-Assertion.", (
        Option("default", choice("no", "user", "request"), "no",
               "What routes do that have no option assertion. user: a JWT with iss, sub, aud (the "
               "upstream), iat, exp, jti, role, scope and route, signed once in half its life. "
               "request: also method, path and request_id, signed for each request. Public keys are at "
               "/.well-known/gateway/jwks.json.", "user", per_route=False),
        Option("key_file", TEXT, "",
               "Private keys (PEM): P-256 (ES256) or Ed25519 (EdDSA). The first one signs, all are "
               "published: put a new key behind the old one, reload, and change places when services "
               "have had five minutes to fetch it. Default: one is made and kept in "
               "$STATE_DIRECTORY or the working directory; several machines need a file.", "assertion.pem", per_route=False),
        Option("previous_key_file", TEXT, "",
               "More keys that are published and do not sign.", "assertion-old.pem", per_route=False),
        Option("issuer", TEXT, "", "What iss says. Default: [gateway] edge.", "https://api.example",
               per_route=False),
        Option("lifetime", duration(10, 3600), "60s",
               "How long an assertion is good; never longer than the token it was made of.",
               per_route=False),
    )),
    "audit": ("What is remembered.", (
        Option("database", TEXT, "audit.sqlite3",
               "A SQLite file; relative to $STATE_DIRECTORY (systemd sets it) or the working "
               "directory.", "/var/lib/gateway/audit.sqlite3", per_route=False),
        Option("batch", integer(1, 2000), "500", "Rows in one INSERT.", per_route=False),
        Option("flush_interval", duration(0.01, 60), "250ms",
               "How often rows are written; kill -9 loses at most one of these and one batch.",
               per_route=False),
        Option("queue", integer(1, 100_000_000), "100000",
               "Rows held while the disk is slow. Beyond half of it refused strangers are counted "
               "instead of rowed; beyond it rows are counted as lost.", per_route=False),
        Option("retention", integer(0, 36_500), "0", "Days rows are kept; 0: for ever.", "400",
               per_route=False),
    )),
}  # fmt: skip

#: Sections of which a route may override options.
OVERRIDABLE = (
    "jwt", "dpop", "mtls", "ratelimit", "ip", "require", "headers", "cors", "body", "breaker",
    "upstream",
)  # fmt: skip


#: Sections of gates, which may be in shadow mode.
GATES = tuple(
    name
    for name, (_, options) in SECTIONS.items()
    if any(option.name == "mode" and option.default == "enforce" for option in options)
)


def option_of(section: str, name: str, says: str) -> Option:
    """The option of another section, for one that has it, too; C{says} is what for."""
    found = next(option for option in SECTIONS[section][1] if option.name == name)
    return replace(found, says=says, example=found.example or found.default)


__all__ = ["ALGORITHMS", "GATES", "LIST", "OVERRIDABLE", "SECTIONS", "SHADOW", "Secret"]
