# -*- test-case-name: tests.settings.test_issuers -*-
"""
Makes what is asked of tokens out of settings, whoever made them. Lets in only settings that
have been read without a problem; rules that mean the same are the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.admission.claim_headers import ClaimHeaders
from gateway.admission.identity import IdentityRules, IIdentityRules, IssuersRules
from gateway.settings import HeadersSettings, JwtSettings, Settings
from gateway.settings.sections import ASKED, LOCAL


def claim_headers(settings: HeadersSettings) -> ClaimHeaders | None:
    """The claims that services get, where there are any."""
    return ClaimHeaders(settings.claims, settings.max_value) if settings.claims else None


def identity_rules(
    settings: Settings, jwt: JwtSettings, headers: HeadersSettings,
    kept: Callable[[str, Any, Callable[[], Any]], Any], proofs: bool = False,
    names: Sequence[str] = (), overridden: Sequence[str] = (),
) -> IIdentityRules:  # fmt: skip
    """
    What is asked of a token beyond its signature, and what of it services get.

    @param jwt: [jwt] as it holds here, C{headers}: [headers].
    @param kept: see L{gateway.build.Rules.of}.
    @param proofs: whether L{gateway.admission.proven} looks at what a token is bound to.
    @param names: whose tokens are good here; empty: everybody's.
    @param overridden: options that the route overrides, as in the file.
    """
    known = _asked_of_each(settings, jwt, overridden)
    chosen = {name: known[name] for name in known if not names or name in names}
    told = headers if headers.claims else None

    def rules(meaning: tuple[Any, ...]) -> IdentityRules:
        issuer, audience, leeway, require_exp, claim, default, lists = meaning
        return IdentityRules(
            issuer, audience, leeway, require_exp, claim, default,
            claim_headers(headers), proofs, lists,
        )  # fmt: skip

    def several() -> IssuersRules:
        return IssuersRules(
            {"" if name == LOCAL else name: rules(meaning) for name, meaning in chosen.items()}
        )

    found: IIdentityRules
    if list(known) == [LOCAL]:
        alone = known[LOCAL]
        found = kept("identity", (alone, told, proofs), lambda: rules(alone))
    else:
        found = kept("identity", (tuple(chosen.items()), told, proofs), several)
    return found


def _asked_of_each(
    settings: Settings, jwt: JwtSettings, overridden: Sequence[str]
) -> dict[str, tuple[Any, ...]]:
    """What is asked of the tokens of each who vouches for some."""
    known: dict[str, tuple[Any, ...]] = {}
    if jwt.has_key:
        known[LOCAL] = (
            jwt.issuer, jwt.audience, jwt.leeway, jwt.require_exp, jwt.role_claim,
            jwt.default_role, False,
        )  # fmt: skip
    if settings.introspection is not None:
        # Its issuer is asked again before long, so that an answer without exp is no danger.
        own = (("require_exp", False),)
        known[ASKED] = (settings.introspection.issuer, *_asked(jwt, own, ()))
    for issuer in settings.issuers:
        known[issuer.name] = (issuer.issuer, *_asked(jwt, issuer.own, overridden))
    return known


def _asked(
    jwt: JwtSettings, own: Sequence[tuple[str, Any]], overridden: Sequence[str]
) -> tuple[Any, ...]:
    """What is asked of an issuer's tokens: as the route says, else the issuer, else [jwt]."""
    said = dict(own)

    def of(name: str) -> Any:
        here = getattr(jwt, name)
        # A route that says no audience does not take an issuer's own away.
        if name in said and (f"jwt.{name}" not in overridden or here == ""):
            return said[name]
        return here

    names = ("audience", "leeway", "require_exp", "role_claim", "default_role")
    return (*(of(name) for name in names), True)
