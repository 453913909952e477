# -*- test-case-name: tests.test_build -*-
"""
Makes rules out of settings: the keys, the common terms and the terms of every route.

Lets in only settings that have been read without a problem; decides nothing about a
request. Rules that a route does not override are shared by identity, and so are rules
that mean the same as in the configuration before: counters and caches hang on them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import astuple, replace
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


def key_meaning(jwt: JwtSettings) -> Hashable:
    """What a verified token was verified with."""
    return jwt.algorithms, jwt.secret.reveal() if jwt.secret is not None else jwt.public_key


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


def identity_rules(settings: JwtSettings, rules: Rules) -> IdentityRules:
    """What is asked of a token beyond its signature."""
    meaning = (
        settings.issuer, settings.audience, settings.leeway, settings.require_exp,
        settings.role_claim, settings.default_role,
    )  # fmt: skip
    found: IdentityRules = rules.of("identity", meaning, lambda: IdentityRules(*meaning))
    return found


def counter(settings: RateLimitSettings, rules: Rules, owner: str) -> Any:
    """
    The limiter's rule of the common counter, or of a route's own.

    @param owner: the route's prefix; empty for the common one.
    """
    # Where counters are, how many, and whose they are changes nothing in one of them.
    counted = replace(
        settings, key="", keys=0, store="", on_store_failure="",
        burst=settings.burst if settings.algorithm == "gcra" else 0,
    )  # fmt: skip
    return rules.of("rate", (owner, astuple(counted)), lambda: rate_rule(settings))


def terms_of(settings: Settings, rules: Rules) -> Terms:
    """The terms of requests that no route takes, and what routes share."""
    return Terms(
        addresses=address_rules(settings.ip),
        cors=cors_rules(settings.cors),
        identity=identity_rules(settings.jwt, rules),
        rate=counter(settings.ratelimit, rules, ""),
        rate_key=settings.ratelimit.key,
        max_body=settings.body.max_size,
    )


def routes_of(
    settings: Settings, common: Terms, targets: Targets, rules: Rules
) -> RouteTable[Terms]:
    """The table of routes with their terms."""
    return RouteTable(
        {
            route.prefix: _route_terms(settings, route, common, targets, rules)
            for route in settings.routes
        }
    )


def _route_terms(
    settings: Settings, route: RouteSettings, common: Terms, targets: Targets, rules: Rules
) -> Terms:
    return Terms(
        route=route.prefix,
        addresses=common.addresses if route.ip is settings.ip else address_rules(route.ip),
        cors=common.cors if route.cors is settings.cors else cors_rules(route.cors),
        identity=identity_rules(route.jwt, rules),
        rate=counter(route.ratelimit, rules, route.prefix) if route.own_counter else common.rate,
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
