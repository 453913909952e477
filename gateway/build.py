# -*- test-case-name: tests.test_build -*-
"""
Makes rules out of settings: the keys, the common terms and the terms of every route.

Lets in only settings that have been read without a problem; decides nothing about a
request. Rules that a route does not override are shared by identity, and so are rules
that mean the same as in the configuration before: counters and caches hang on them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from gateway.admission.addresses import AddressRules
from gateway.admission.identity import IdentityRules, IIdentityRules
from gateway.admission.origins import CorsRules
from gateway.admission.refused import RefusedLimit
from gateway.admission.windows import Rule
from gateway.assertion.keys import SigningKey, generate, kept, signing_keys
from gateway.assertion.signer import Assertion
from gateway.buildidentity import claim_headers, identity_rules
from gateway.buildproofs import proof_rule, proving, proving_fields, takes_of, windows_rule
from gateway.exchange import trailer_rules
from gateway.keys import VerificationKey, hmac_key, public_key
from gateway.routing.expression import Expression
from gateway.routing.hours import Hours, Span
from gateway.routing.policy import Policy
from gateway.routing.table import RouteTable
from gateway.settings import (
    CorsSettings,
    IpSettings,
    JwtSettings,
    RateLimitSettings,
    RouteSettings,
    Settings,
)
from gateway.shadow import Counts, Shadow
from gateway.stores.memory import MemoryBuckets
from gateway.terms import Terms
from gateway.upstream.targets import Targets


class Rules:
    """
    The rules of one configuration that others hold on to by identity.

    @param before: those of the configuration before.
    """

    def __init__(self, before: Rules | None = None) -> None:
        self._before = before
        self._made: dict[tuple[Hashable, ...], Any] = {}

    def of(self, kind: str, meaning: Hashable, make: Callable[[], Any]) -> Any:
        """The one rule of its kind that means this."""
        key = (kind, meaning)
        rule = self._made.get(key)
        if rule is None and self._before is not None:
            rule = self._before._made.get(key)
        if rule is None:
            rule = make()
        self._made[key] = rule
        return rule

    def all(self, kind: str) -> set[Any]:
        """Every rule of a kind."""
        return {rule for (made, _), rule in self._made.items() if made == kind}

    def hold(self) -> None:
        """The configuration before has gone."""
        self._before = None


def key_meaning(settings: Settings) -> Hashable:
    """What a verified token was verified with, and by whom."""
    jwt = settings.jwt
    key = jwt.secret.reveal() if jwt.secret is not None else jwt.public_key
    return jwt.algorithms, key, settings.issuers, settings.introspection


def verification_key(jwt: JwtSettings) -> VerificationKey | None:
    """The one key of one family; C{None}: there is none here."""
    if not jwt.has_key:
        return None
    if jwt.public_key is not None:
        return public_key(jwt.public_key, jwt.algorithms)
    assert jwt.secret is not None  # the settings' reader insists on one of them
    return hmac_key(jwt.secret.reveal(), jwt.algorithms)


def rate_rule(settings: RateLimitSettings, owner: str = "default") -> Rule:
    """The limiter's rule; C{owner} is a plan's name or a route's prefix."""
    return windows_rule(
        settings.windows,
        owner,
        settings.algorithm,
        settings.burst,
        settings.ietf_headers,
    )


def failure_policies(settings: Settings) -> dict[bytes, str]:
    """
    By the ids of rules: what holds for routes' own ones, and for proofs, while the shared
    store can't be asked.
    """
    found = {
        rate_rule(route.ratelimit, route.prefix).id: route.ratelimit.on_store_failure
        for route in settings.routes
        if route.own_counter
    }
    if settings.ratelimit.on_store_failure == "open":
        # A limit may be waived; that a proof is good once only may not.
        found[proof_rule(settings.dpop).id] = "local"
    return found


def processes(settings: Settings) -> int:
    """How many share a limit: workers on all machines."""
    return settings.gateway.workers * settings.ratelimit.machines


def refused_limit(settings: RateLimitSettings, rules: Rules) -> RefusedLimit | None:
    """The limit on refused tokens, where there is one."""
    if not settings.refused:
        return None
    rule = windows_rule(settings.refused, "refused", ietf=settings.ietf_headers)
    meaning = (rule.id, settings.ietf_headers, settings.refused_keys)
    limit: RefusedLimit = rules.of(
        "refused", meaning, lambda: RefusedLimit(rule, MemoryBuckets(settings.refused_keys))
    )
    return limit


def address_rules(settings: IpSettings) -> AddressRules:
    """The networks that may and may not come in."""
    return AddressRules(settings.allow, settings.deny)


def cors_rules(settings: CorsSettings) -> CorsRules:
    """What browsers are told."""
    return CorsRules(
        enabled=settings.enabled,
        allow_origin=settings.allow_origin,
        allow_methods=settings.allow_methods,
        allow_headers=settings.allow_headers,
        expose_headers=settings.expose_headers,
        max_age=settings.max_age,
    )


def policy(route: RouteSettings) -> Policy:
    """Who may do what on a route."""
    asked = route.requirements
    spans = [
        Span(frozenset(each.days), each.begins, each.ends, ZoneInfo(each.zone))
        for each in asked.time
    ]
    return Policy(
        methods=route.methods,
        roles=asked.role,
        scopes=asked.scope,
        claims=asked.claims,
        addresses=AddressRules(asked.ip, ()) if asked.ip else None,
        hours=Hours(spans) if spans else None,
        expression=Expression(asked.expr) if asked.expr else None,
    )


def shadow_counts(rules: Rules) -> Counts:
    """How often gates in shadow mode would have refused, in this and all configurations before."""
    found: Counts = rules.of("shadowed", (), dict)
    return found


def shadow(gates: Sequence[str], route: str, rules: Rules) -> Shadow | None:
    """The gates that only say what they would refuse, where there are any."""
    counts = shadow_counts(rules)
    return Shadow(gates, route, counts) if gates else None


def counter(settings: RateLimitSettings, rules: Rules, owner: str = "default") -> Any:
    """
    The limiter's rule, with the counters that hang on it.

    @param owner: see L{rate_rule}.
    """
    rule = rate_rule(settings, owner)
    return rules.of("rate", (rule.id, settings.ietf_headers), lambda: rule)


def terms_of(settings: Settings, rules: Rules) -> Terms:
    """The terms of requests that no route takes, and what routes share."""
    return Terms(
        addresses=address_rules(settings.ip),
        cors=cors_rules(settings.cors),
        identity=identity_rules(
            settings, settings.jwt, settings.headers, rules.of, proving(settings)
        ),
        rate=counter(settings.ratelimit, rules),
        rate_key=settings.ratelimit.key,
        plan_claim=settings.ratelimit.plan_claim,
        plans={name: counter(plan, rules, name) for name, plan in settings.plans},
        cost=settings.ratelimit.cost,
        costs=_costs(settings.ratelimit),
        takes=takes_of(settings, None),
        max_body=settings.body.max_size,
        trailers=trailer_rules(settings.claim_fields, *proving_fields(settings)),
        shadow=shadow(settings.shadowed, "", rules),
    )


def assertion_keys(settings: Settings) -> tuple[SigningKey, ...]:
    """
    The keys of assertions, that which signs first; none where nothing is signed.

    @raise OSError: when one has to be made and can't be kept.
    """
    own = settings.assertion
    pem = own.keys.reveal() if own.keys is not None else b""
    if not own.given and any(route.assertion != "no" for route in settings.routes):
        pem = (kept(own.generated) if own.generated else generate()) + pem
    return signing_keys(pem) if pem else ()


def assertion_of(
    settings: Settings, route: RouteSettings, audience: str, rules: Rules, key: SigningKey
) -> Assertion | None:
    """What the route's upstream is told, signed."""
    if route.assertion == "no":
        return None
    meaning = (
        settings.assertion.issuer, route.assertion_audience or audience, route.prefix,
        settings.assertion.lifetime, route.assertion == "request",
    )  # fmt: skip
    made: Assertion = rules.of("assertion", (key.kid, *meaning), lambda: Assertion(key, *meaning))
    return made


def routes_of(
    settings: Settings, common: Terms, targets: Targets, rules: Rules,
    keys: tuple[SigningKey, ...] = (),
) -> RouteTable[Terms]:  # fmt: skip
    """The table of routes with their terms."""
    return RouteTable(
        {
            route.prefix: _route_terms(settings, route, common, targets, rules, keys)
            for route in settings.routes
        }
    )


def _route_terms(
    settings: Settings, route: RouteSettings, common: Terms, targets: Targets, rules: Rules,
    keys: tuple[SigningKey, ...],
) -> Terms:  # fmt: skip
    target = targets.of(route)
    if route.public:
        # By these rules nobody is ever identified, so no token is known by them.
        identity: IIdentityRules = IdentityRules()
    elif route.jwt is settings.jwt and route.headers is settings.headers and not route.issuers:
        identity = common.identity
    else:
        identity = identity_rules(
            settings, route.jwt, route.headers, rules.of, proving(settings), route.issuers,
            route.overrides,
        )  # fmt: skip
    return Terms(
        route=route.prefix,
        addresses=common.addresses if route.ip is settings.ip else address_rules(route.ip),
        cors=common.cors if route.cors is settings.cors else cors_rules(route.cors),
        identity=identity,
        rate=counter(route.ratelimit, rules, route.prefix) if route.own_counter else common.rate,
        rate_key=route.ratelimit.key,
        own_counter=route.own_counter,
        plan_claim=route.ratelimit.plan_claim,
        plans={} if route.own_counter else common.plans,
        cost=route.ratelimit.cost,
        costs=_costs(route.ratelimit),
        policy=policy(route),
        takes=takes_of(settings, route, claim_headers(route.headers)),
        max_body=route.body.max_size,
        public=route.public,
        trailers=common.trailers,
        shadow=shadow(route.shadowed, route.prefix, rules),
        target=target,
        assertion=assertion_of(settings, route, target.name, rules, keys[0]) if keys else None,
    )


def _costs(settings: RateLimitSettings) -> dict[bytes, int]:
    return {method.encode("ascii"): cost for method, cost in settings.costs}
