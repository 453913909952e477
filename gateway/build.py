# -*- test-case-name: tests.test_build -*-
"""
Makes rules out of settings: the keys, the common terms and the terms of every route.

Lets in only settings that have been read without a problem; decides nothing about a
request. Rules that a route does not override are shared by identity.
"""

from __future__ import annotations

from typing import Any

from gateway.admission.addresses import AddressRules
from gateway.admission.identity import IdentityRules
from gateway.admission.origins import CorsRules
from gateway.admission.windows import FixedWindow, Gcra, SlidingWindow
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
from gateway.terms import Terms
from gateway.upstream.targets import Targets


def verification_key(jwt: JwtSettings) -> VerificationKey:
    """The one key of one family."""
    if jwt.public_key is not None:
        return public_key(jwt.public_key, jwt.algorithms)
    assert jwt.secret is not None  # the settings' reader insists on one of them
    return hmac_key(jwt.secret.reveal(), jwt.algorithms)


def rate_rule(settings: RateLimitSettings) -> Any:
    """The limiter's rule."""
    window = int(settings.window * 1_000_000)
    if settings.algorithm == "fixed-window":
        return FixedWindow(settings.limit, window)
    if settings.algorithm == "gcra":
        return Gcra(settings.limit, window, settings.burst)
    return SlidingWindow(settings.limit, window)


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
        rate=rate_rule(route.ratelimit) if route.own_counter else common.rate,
        rate_key=route.ratelimit.key,
        policy=Policy(
            methods=route.methods,
            roles=route.require_role,
            scopes=route.require_scope,
            claims=route.require_claims,
        ),
        max_body=route.body.max_size,
        target=targets.of(route),
    )
