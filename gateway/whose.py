# -*- test-case-name: tests.settings.test_issuers -*-
"""Whose tokens are good on a route, and what must be in them, for C{gateway check}."""

from __future__ import annotations

from typing import Any

from gateway.settings import RouteSettings, Settings
from gateway.settings.sections import ASKED, LOCAL


def others(settings: Settings) -> bool:
    """Whether anybody vouches for tokens besides the local key."""
    return bool(settings.issuers) or settings.introspection is not None


def tokens(route: RouteSettings, settings: Settings) -> list[str]:
    """The tokens that are good, each kind by itself."""
    jwt = route.jwt
    local = f"a valid token ({', '.join(jwt.algorithms)})"
    if not others(settings):
        return [local]
    found = []
    if jwt.has_key and LOCAL in (route.issuers or (LOCAL,)):
        found.append(" of ".join([local, *local_asks(route)]))
    for issuer in settings.issuers:
        if issuer.name in (route.issuers or (issuer.name,)):
            own = {**dict(issuer.own), **_overridden(route)}
            meant = own.get("audience", jwt.audience) or "any audience"
            meant = meant if isinstance(meant, str) else " or ".join(meant)
            algorithms = ", ".join(issuer.algorithms)
            found.append(f"a token of {issuer.name} ({issuer.issuer}; {algorithms}) for {meant}")
    if settings.introspection is not None and ASKED in (route.issuers or (ASKED,)):
        found.append(f"a token that {settings.introspection.url} says is active")
    return found


def local_asks(route: RouteSettings) -> list[str]:
    """What must be in a token of the local key."""
    jwt = route.jwt
    asked = [f"issuer {jwt.issuer}"] if jwt.issuer else []
    return asked + ([f"audience {jwt.audience}"] if jwt.audience else [])


def _overridden(route: RouteSettings) -> dict[str, Any]:
    """What the route says of all its tokens; no audience takes none away."""
    said = {
        name.removeprefix("jwt."): getattr(route.jwt, name.removeprefix("jwt."))
        for name in route.overrides
        if name.startswith("jwt.")
    }
    return {name: value for name, value in said.items() if value != ""}
