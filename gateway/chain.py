# -*- test-case-name: tests.test_chain -*-
"""
THE page: the way of a request, outermost stage first.

Read L{STAGES} downwards: that is the order in which a request meets them, and in which
the contract numbers them. Answers travel upwards. The picture in docs/architecture.md
is made from this list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from twisted.web.resource import IResource

from gateway.admission.authentication import Authenticated, Guarded
from gateway.admission.cors import CORSAnswered
from gateway.admission.health import NO_KEYS, HealthAnswered
from gateway.admission.inflight import Flying, InFlightLimited
from gateway.admission.ipfilter import IPFiltered
from gateway.admission.peer import PeerNamed
from gateway.admission.peers import TrustedProxies
from gateway.admission.presented import Presented
from gateway.admission.proofs import Proofs
from gateway.admission.proven import Proven
from gateway.admission.public import PublicPassed
from gateway.admission.ratelimit import RateLimited
from gateway.admission.refused import RefusedLimit
from gateway.admission.token_cache import TokenCache
from gateway.audit.audited import Audited
from gateway.audit.record import IAuditLog
from gateway.express import ExpressLane
from gateway.interfaces import IBuckets
from gateway.routing.lookup import LookedUp
from gateway.routing.permitted import Permitted
from gateway.routing.router import Routed
from gateway.routing.table import RouteTable
from gateway.terms import Terms
from gateway.upstream.breaker import CircuitBroken
from gateway.upstream.forward import Forwarded
from gateway.upstream.size import SizeLimited


@dataclass(frozen=True, slots=True)
class Parts:
    """
    What the stages are made of.

    @ivar terms: of requests that no route takes.
    @ivar most_flying: requests that may be under way at once; 0: no limit.
    @ivar refused: the limit on refused tokens; C{None}: there is none.
    @ivar proofs: other credentials than bearer tokens; C{None}: there are none.
    @ivar now: the wall clock, unix seconds.
    @ivar clock: monotonic seconds.
    @ivar public: whether some route asks for no token.
    @ivar keys: the public keys of assertions, as they are published.
    """

    audit: IAuditLog
    routes: RouteTable[Terms]
    terms: Terms
    proxies: TrustedProxies
    client_address_header: str
    edge: str
    tokens: TokenCache
    buckets: IBuckets
    refused: RefusedLimit | None
    now: Callable[[], float]
    clock: Callable[[], float]
    flying: Flying
    most_flying: int = 0
    public: bool = False
    proofs: Proofs | None = None
    keys: bytes = NO_KEYS


class Stage(NamedTuple):
    """One stage: its place in the contract's table, what it answers, how it wraps the next."""

    number: int
    name: str
    answers: str
    wrap: Callable[[Parts, IResource], IResource]


def _known(parts: Parts, inner: IResource) -> IResource:
    """Authenticated, but for those whom nobody asks."""
    asked = _authenticated(parts, inner)
    return PublicPassed(asked, inner, parts.terms) if parts.public else asked


def _authenticated(parts: Parts, inner: IResource) -> IResource:
    """By token alone; around that, where configured, all other credentials and proofs."""
    if parts.proofs is None:
        return _by_token(parts, inner)
    tokens = _by_token(parts, Proven(inner, parts.proofs, parts.now))
    return Presented(tokens, inner, parts.proofs, parts.terms, parts.now, parts.refused)


def _by_token(parts: Parts, inner: IResource) -> IResource:
    if parts.refused is None:
        return Authenticated(inner, parts.tokens, parts.terms, parts.now)
    return Guarded(inner, parts.tokens, parts.terms, parts.now, parts.refused)


STAGES: tuple[Stage, ...] = (
    Stage(0, "Audited", "one row for every request", lambda p, inner: Audited(
        inner, p.audit, p.clock, p.now)),
    Stage(1, "PeerNamed", "400", lambda p, inner: PeerNamed(
        inner, p.proxies, p.client_address_header)),
    Stage(1, "LookedUp", "400", lambda p, inner: LookedUp(inner, p.routes, p.terms)),
    Stage(2, "IPFiltered", "403", lambda p, inner: IPFiltered(inner, p.terms)),
    Stage(3, "CORSAnswered", "200 to OPTIONS", lambda p, inner: CORSAnswered(inner, p.terms)),
    Stage(4, "HealthAnswered", "200 to /health and the keys", lambda p, inner: HealthAnswered(
        inner, p.edge, p.keys)),
    Stage(4, "InFlightLimited", "503, where configured", lambda p, inner: InFlightLimited(
        inner, p.flying, p.most_flying) if p.most_flying else inner),
    Stage(5, "Authenticated", "401, 429", _known),
    Stage(6, "RateLimited", "429, 503", lambda p, inner: RateLimited(
        inner, p.buckets, p.terms, p.now)),
    Stage(7, "Routed", "404", lambda p, inner: Routed(inner)),
    Stage(8, "Permitted", "403, 405", lambda p, inner: Permitted(
        inner, p.terms, p.now)),
    Stage(9, "SizeLimited", "413", lambda p, inner: SizeLimited(inner, p.terms)),
    Stage(10, "CircuitBroken", "503", lambda p, inner: CircuitBroken(inner, p.clock)),
)  # fmt: skip


def chain(parts: Parts, innermost: IResource | None = None) -> IResource:
    """
    The whole resource tree.

    @param innermost: what admitted requests meet at last; by default stage 11,
        L{Forwarded}.
    """
    if innermost is not None:
        outermost: IResource = nested(parts, innermost)["Audited"]
        return outermost
    return ExpressLane(parts, nested(parts, Forwarded(parts.clock)))


def nested(parts: Parts, innermost: IResource) -> dict[str, Any]:
    """The stages around C{innermost}, each around the next, by their names."""
    made: dict[str, Any] = {type(innermost).__name__: innermost}
    inner = innermost
    for stage in reversed(STAGES):
        inner = made[stage.name] = stage.wrap(parts, inner)
    return made


def picture() -> str:
    """The way of a request as text, for docs/architecture.md."""
    rows = [f"{stage.number:>2}  {stage.name:<15} {stage.answers}" for stage in STAGES]
    rows.append("11  Forwarded       502, 503, 504, or the upstream's answer")
    return "\n".join(["    client", "      |", *rows, "      |", "    upstream"])
