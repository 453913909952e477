# -*- test-case-name: tests.test_generation -*-
"""
What is made anew for each configuration, apart from what lives as long as the process.

Lets a new L{Generation} come into force at one stroke: the request whose head comes next
meets it, those under way end under the one before, which goes with the last of them. What
means the same in both is the same object: counters, verified tokens, connections to
upstreams and their circuits go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.web.resource import IResource

from gateway.admission.identity import Identity
from gateway.admission.inflight import Flying
from gateway.admission.peers import TrustedProxies
from gateway.admission.proofs import Proofs
from gateway.admission.refused import RefusedLimit
from gateway.admission.token_cache import TokenCache
from gateway.assertion.keys import published
from gateway.assertion.signer import KEPT
from gateway.audit.record import IAuditLog
from gateway.build import (
    Rules,
    assertion_keys,
    failure_policies,
    key_meaning,
    processes,
    refused_limit,
    routes_of,
    terms_of,
    verification_key,
)
from gateway.buildproofs import key_rules, proofs_of, proving_fields
from gateway.chain import Parts, chain
from gateway.exchange import request_rules
from gateway.http.heads import RequestHeads
from gateway.http.keyed import KeyedHeads
from gateway.http.site import Limits, Site
from gateway.http.sweep import Sweep
from gateway.issuers.sources import Sources
from gateway.settings import Settings
from gateway.stores.failover import Failover
from gateway.stores.memory import MemoryBuckets
from gateway.upstream.targets import Targets
from gateway.verdicts import Refused


@dataclass(frozen=True, slots=True)
class Lasting:
    """
    What lives as long as the process.

    @ivar reactor: connects to upstreams.
    @ivar now: the wall clock, unix seconds.
    @ivar clock: monotonic seconds.
    @ivar revoked: see L{TokenCache}.
    """

    reactor: Any
    sweep: Sweep
    audit: IAuditLog
    buckets: MemoryBuckets | Failover
    now: Callable[[], float]
    clock: Callable[[], float]
    flying: Flying = field(default_factory=Flying)
    revoked: Callable[[bytes, Identity], Refused | None] | None = None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Generation:
    """
    One configuration, ready to serve.

    @ivar resource: the whole tree.
    """

    settings: Settings
    rules: Rules
    targets: Targets
    sources: Sources
    tokens: TokenCache
    refused: RefusedLimit | None
    proofs: Proofs | None
    heads: RequestHeads
    limits: Limits
    resource: IResource


def generation(
    settings: Settings, lasting: Lasting, before: Generation | None = None
) -> Generation:
    """
    Make a generation; nothing that serves is touched until L{hold}.

    @param before: the one that serves now.
    @raise Exception: whatever a key or certificate file has come to be since it was checked.
    """
    gateway = settings.gateway
    rules = Rules(before.rules if before is not None else None)
    targets = Targets(
        lasting.reactor, lasting.sweep, before.targets if before is not None else None
    )
    terms = terms_of(settings, rules)
    keys = assertion_keys(settings)
    routes = routes_of(settings, terms, targets, rules, keys)
    sources = Sources(
        settings, lasting.reactor, lasting.clock, lasting.now,
        before.sources if before is not None else None,
    )  # fmt: skip
    tokens = _tokens(settings, rules, sources, before)
    tokens.revoked = lasting.revoked
    tokens.copies = min(KEPT, sum(route.assertion == "user" for route in settings.routes))
    refused = refused_limit(settings.ratelimit, rules)
    proofs = _proofs(settings, rules, lasting)
    parts = Parts(
        audit=lasting.audit,
        routes=routes,
        terms=terms,
        proxies=TrustedProxies(gateway.trusted_proxies, gateway.client_address_header),
        client_address_header=gateway.client_address_header,
        edge=gateway.edge,
        tokens=tokens,
        buckets=lasting.buckets,
        refused=refused,
        now=lasting.now,
        clock=lasting.clock,
        flying=lasting.flying,
        most_flying=gateway.max_requests_in_flight,
        public=any(route.public for route in settings.routes),
        proofs=proofs,
        keys=published(keys),
    )
    # What it remembers of heads holds on to the tree it was made for.
    heads = _heads(settings)
    heads.vouched = tokens.values
    return Generation(
        settings, rules, targets, sources, tokens, refused, proofs, heads, Limits.of(gateway),
        chain(parts),
    )


def _heads(settings: Settings) -> RequestHeads:
    """The parser of requests' heads."""
    gateway, proving = settings.gateway, proving_fields(settings)
    rules = request_rules(gateway.client_address_header, settings.claim_fields, *proving)
    most = gateway.max_request_line, gateway.max_fields
    return KeyedHeads(rules, proving[0], *most) if proving[0] else RequestHeads(rules, *most)


def hold(new: Generation, lasting: Lasting, site: Site) -> None:
    """The new generation serves from now on. Can't fail, as there is no way back."""
    settings = new.settings
    new.rules.hold()
    new.targets.hold()
    new.sources.hold()
    new.tokens.resize(settings.jwt.cache, settings.jwt.cache_size)
    lasting.buckets.resize(settings.ratelimit.keys)
    lasting.buckets.retain(new.rules.all("rate") | key_rules(new.proofs))
    if isinstance(lasting.buckets, Failover):
        lasting.buckets.reconfigure(
            settings.ratelimit.on_store_failure, failure_policies(settings), processes(settings)
        )
    lasting.sweep.retime(beat(settings))
    site.reconfigure(new.resource, new.heads, new.limits)


def _tokens(
    settings: Settings, rules: Rules, sources: Sources, before: Generation | None
) -> TokenCache:
    """
    The cache of verified tokens: the same one, unless somebody else vouches for tokens, or
    rules have gone by which it has let tokens in.
    """
    if (
        before is not None
        and key_meaning(before.settings) == key_meaning(settings)
        and before.rules.all("identity") <= rules.all("identity")
    ):
        return before.tokens
    verifier = sources.verifier(verification_key(settings.jwt))
    tokens = TokenCache(verifier, settings.jwt.cache, settings.jwt.cache_size)
    sources.watch(tokens)
    return tokens


def _proofs(settings: Settings, rules: Rules, lasting: Lasting) -> Proofs | None:
    """What looks at credentials other than bearer tokens; their memories go on."""

    def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        pool = lasting.reactor.getThreadPool()
        return deferToThreadPool(lasting.reactor, pool, call, *arguments)

    shared = lasting.buckets if isinstance(lasting.buckets, Failover) else None
    return proofs_of(settings, rules.of, in_thread, shared, lasting.revoked)


def beat(settings: Settings) -> float:
    """Seconds between two looks at the deadlines: a second, less where a time-out is short."""
    gateway = settings.gateway
    times = [
        gateway.header_timeout,
        gateway.body_timeout,
        gateway.send_timeout,
        gateway.idle_timeout,
    ]
    for route in settings.routes:
        upstream = route.upstream_settings
        times += [upstream.response_timeout, upstream.read_timeout, upstream.queue_timeout]
    return max(0.05, min(1.0, min(times) / 4))
