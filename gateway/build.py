# -*- test-case-name: tests.test_build -*-
"""
Makes rules out of settings: the keys, the common terms and the terms of every route.

Lets in only settings that have been read without a problem; decides nothing about a
request. Rules that a route does not override are shared by identity.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from gateway.admission.addresses import AddressRules
from gateway.admission.identity import IdentityRules
from gateway.admission.origins import CorsRules
from gateway.admission.refused import RefusedLimit
from gateway.admission.windows import Combined, FixedWindow, Gcra, Rule, SlidingWindow
from gateway.keys import VerificationKey, hmac_key, public_key
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
from gateway.stores.memory import MemoryBuckets
from gateway.terms import Terms
from gateway.upstream.targets import Targets


def verification_key(jwt: JwtSettings) -> VerificationKey:
    """The one key of one family."""
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


def windows_rule(
    spans: Sequence[tuple[int, float]],
    owner: str,
    algorithm: str = "sliding-window",
    burst: int = 1,
    ietf: bool = True,
) -> Rule:
    """A rule of one or several windows of (limit, seconds)."""
    made: list[SlidingWindow | FixedWindow | Gcra] = []
    for limit, seconds in spans:
        window = round(seconds * 1_000_000)
        if algorithm == "fixed-window":
            made.append(FixedWindow(limit, window, owner, ietf))
        elif algorithm == "gcra":
            made.append(Gcra(limit, window, burst, owner, ietf))
        else:
            made.append(SlidingWindow(limit, window, owner, ietf))
    return made[0] if len(made) == 1 else Combined(made, ietf)


def failure_policies(settings: Settings) -> dict[bytes, str]:
    """By the ids of routes' own rules: what holds while the shared store can't be asked."""
    return {
        rate_rule(route.ratelimit, route.prefix).id: route.ratelimit.on_store_failure
        for route in settings.routes
        if route.own_counter
    }


def processes(settings: Settings) -> int:
    """How many share a limit: workers on all machines."""
    return (settings.gateway.workers or os.cpu_count() or 1) * settings.ratelimit.machines


def refused_limit(settings: RateLimitSettings) -> RefusedLimit | None:
    """The limit on refused tokens, where there is one."""
    if not settings.refused:
        return None
    rule = windows_rule(settings.refused, "refused", ietf=settings.ietf_headers)
    return RefusedLimit(rule, MemoryBuckets(settings.refused_keys))


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


def identity_rules(settings: JwtSettings) -> IdentityRules:
    """What is asked of a token beyond its signature."""
    return IdentityRules(
        issuer=settings.issuer,
        audience=settings.audience,
        leeway=settings.leeway,
        require_exp=settings.require_exp,
        role_claim=settings.role_claim,
        default_role=settings.default_role,
    )


def terms_of(settings: Settings) -> Terms:
    """The terms of requests that no route takes, and what routes share."""
    return Terms(
        addresses=address_rules(settings.ip),
        cors=cors_rules(settings.cors),
        identity=identity_rules(settings.jwt),
        rate=rate_rule(settings.ratelimit),
        rate_key=settings.ratelimit.key,
        plan_claim=settings.ratelimit.plan_claim,
        plans={name: rate_rule(plan, name) for name, plan in settings.plans},
        cost=settings.ratelimit.cost,
        costs=_costs(settings.ratelimit),
        max_body=settings.body.max_size,
    )


def routes_of(settings: Settings, common: Terms, targets: Targets) -> RouteTable[Terms]:
    """The table of routes with their terms."""
    return RouteTable(
        {route.prefix: _route_terms(settings, route, common, targets) for route in settings.routes}
    )


def _route_terms(
    settings: Settings, route: RouteSettings, common: Terms, targets: Targets
) -> Terms:
    return Terms(
        route=route.prefix,
        addresses=common.addresses if route.ip is settings.ip else address_rules(route.ip),
        cors=common.cors if route.cors is settings.cors else cors_rules(route.cors),
        identity=common.identity if route.jwt is settings.jwt else identity_rules(route.jwt),
        rate=rate_rule(route.ratelimit, route.prefix) if route.own_counter else common.rate,
        rate_key=route.ratelimit.key,
        plan_claim=route.ratelimit.plan_claim,
        plans={} if route.own_counter else common.plans,
        cost=route.ratelimit.cost,
        costs=_costs(route.ratelimit),
        policy=Policy(
            methods=route.methods,
            roles=route.require_role,
            scopes=route.require_scope,
            claims=route.require_claims,
        ),
        max_body=route.body.max_size,
        target=targets.of(route),
    )


def _costs(settings: RateLimitSettings) -> dict[bytes, int]:
    return {method.encode("ascii"): cost for method, cost in settings.costs}
