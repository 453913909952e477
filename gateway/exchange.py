# -*- test-case-name: tests.test_exchange -*-
"""
What the stages find out about one request, handed from one to the next and to the audit.

Nothing is decided here. A stage that stands alone in somebody's C{Site} makes the
exchange itself; in the chain the outermost one does.
"""

from __future__ import annotations

import os
import struct
from binascii import hexlify
from typing import TYPE_CHECKING, Any

from gateway.http.face import stock_face
from gateway.http.fields import FieldRules
from gateway.http.heads import RequestHeads
from gateway.http.request import Request, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.admission.addresses import Address
    from gateway.admission.identity import Identity
    from gateway.terms import Terms

#: Fields only the gateway may set; a client's own are dropped in every spelling.
OURS = frozenset((b"x-user-id", b"x-user-role", b"x-request-id", b"x-gateway-assertion"))

#: Fields that name a client or the way it came: what of them goes on is decided anew.
FORWARDING = frozenset(
    (
        b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-server", b"x-forwarded-scheme", b"x-forwarded-ssl", b"forwarded",
        b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip",
        b"cf-connecting-ip", b"fastly-client-ip",
    )
)  # fmt: skip

#: Fields looked at here and passed on.
NOTED = frozenset((b"user-agent", b"origin"))

#: Fields of an upstream's answer that the gateway speaks for itself.
OURS_BACK = frozenset(
    (
        b"x-request-id", b"x-response-time", b"x-ratelimit-limit", b"x-ratelimit-remaining",
        b"x-ratelimit-reset", b"ratelimit", b"ratelimit-policy", b"x-gateway-assertion",
    )
)  # fmt: skip


#: Fields that show who calls: never forwarded, whoever looks at them.
PROVING = frozenset((b"dpop", b"client-cert", b"client-cert-chain"))


def request_rules(
    client_address_header: str,
    claim_fields: frozenset[bytes] = frozenset(),
    key_header: str = "",
    certificate_header: str = "",
) -> FieldRules:
    """
    What the engine does with the fields of a request's head.

    @param claim_fields: in which some service gets a claim; a client's own are dropped on
        every route.
    @param key_header: the field of API keys, if there are any.
    @param certificate_header: the field in which a proxy tells of its clients' certificates.
    """
    named = {client_address_header.lower().encode("ascii")}
    return FieldRules(
        drop=OURS | claim_fields,
        withhold=FORWARDING | named | _proving(key_header, certificate_header),
        note=NOTED,
        secret=_proving(key_header) - {b"client-cert", b"client-cert-chain"},
    )


def trailer_rules(
    claim_fields: frozenset[bytes] = frozenset(), key_header: str = "", certificate_header: str = ""
) -> FieldRules:
    """The same for the fields behind a body, either way."""
    drop = OURS | FORWARDING | claim_fields | _proving(key_header, certificate_header)
    return FieldRules(drop=drop, withhold=frozenset(), note=frozenset())


def _proving(*names: str) -> frozenset[bytes]:
    return PROVING | {name.lower().encode("ascii") for name in names if name}


#: Where no claims are sent.
TRAILERS = trailer_rules()


#: What the engine does with the fields of an answer's head.
RESPONSE_RULES = FieldRules(
    drop=OURS_BACK, withhold=frozenset((b"access-control-allow-origin",)), note=frozenset()
)

#: For a stage that stands alone in a stock C{Site}.
_STANDALONE = RequestHeads(request_rules("X-Forwarded-For"))


class Exchange:
    """
    One request's facts.

    @ivar started: monotonic seconds.
    @ivar began: the same moment on the wall clock, unix seconds.
    @ivar request_id_line: X-Request-ID with a new UUID, as a header line.
    @ivar peer: the socket peer's address as text, C{None} for a UNIX socket.
    @ivar trusted: whether that peer is a trusted proxy.
    @ivar address: the client's address, once known.
    @ivar terms: the effective rules of the route, once looked up.
    @ivar rest: the path behind the route's prefix.
    @ivar identity: who calls, once authenticated.
    @ivar reason: why the request was refused or cut; empty when it passed.
    @ivar detail: more about the reason, a text that many requests share.
    @ivar upstream: where it was sent.
    @ivar permit: the circuit's permit, while one is held.
    @ivar on_landed: the end of the request as those before L{InFlightLimited} want to hear it.
    @ivar presented: what came with a token, where proofs are looked at.
    @ivar challenge: makes the challenge of a 401 fit the scheme in which the token came.
    """

    # Defaults stand on the class: an exchange is made for each request.
    started = 0.0
    began = 0.0
    request_id_line = b""
    peer: str | None = None
    trusted = False
    address: Address | None = None
    terms: Terms | None = None
    path = b""
    query = b""
    rest = b""
    identity: Identity | None = None
    reason = ""
    detail = ""
    upstream = ""
    permit: Any = None
    on_landed: Any = None
    presented: Any = None
    challenge: Callable[[bytes], bytes] | None = None

    @property
    def request_id(self) -> bytes:
        """The UUID as ASCII bytes."""
        return self.request_id_line[14:50]


lay_out(
    Exchange(), "started", "began", "request_id_line", "peer", "trusted", "address", "terms",
    "path", "query", "rest", "identity", "reason", "upstream", "permit",
    "presented", "challenge",
)  # fmt: skip


def face_of(request: Any) -> Any:
    """The fast face of the engine's own or of a stock request."""
    return request if type(request) is Request else stock_face(request, _STANDALONE)


def exchange_of(request: Any) -> tuple[Any, Exchange]:
    """The request's face (see L{face_of}) and its exchange, made if there is none yet."""
    face = face_of(request)
    exchange: Exchange | None = face.exchange
    if exchange is None:
        exchange = face.exchange = Exchange()
        exchange.request_id_line = request_id_line()
    return face, exchange


#: Identifiers made at once: one system call, one pass.
_BATCH = 128
_PIECES = struct.Struct("8s4sx3sx3s12s" * _BATCH)
_LINES = b"X-Request-ID: %b-%b-4%b-a%b-%b\r\n" * _BATCH
#: Those that are left; who finds some takes the last.
READY: list[bytes] = []

# A forked child must not hand out its parent's identifiers.
os.register_at_fork(after_in_child=READY.clear)


def request_id_line() -> bytes:
    """X-Request-ID with a new random UUID (RFC 9562 section 5.4), which is [14:50] of it."""
    if not READY:
        digits = hexlify(os.urandom(16 * _BATCH))
        READY.extend((_LINES % _PIECES.unpack(digits)).splitlines(keepends=True))
    return READY.pop()
