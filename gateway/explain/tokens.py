# -*- test-case-name: tests.explain.test_stages -*-
"""
Says in words why a token was refused; decides nothing: the verdict is there already.
"""

from __future__ import annotations

import time
from typing import Any

import jwt as pyjwt

from gateway.admission.identity import claim_of, field_text
from gateway.settings import IssuerSettings, JwtSettings, Settings


def parts_of(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as far as they can be read; nothing is verified."""
    header: dict[str, Any] = {}
    claims: dict[str, Any] = {}
    try:
        header = pyjwt.get_unverified_header(raw)
        claims = pyjwt.decode(raw, options={"verify_signature": False})
    except (pyjwt.PyJWTError, ValueError):
        pass
    return header, claims


def shown(raw: bytes) -> str:
    """A token for people: what it says, never the token itself."""
    header, claims = parts_of(raw)
    if not header and not claims:
        return f"a token of {len(raw)} bytes that can't be read"
    told = [f"alg {header.get('alg', 'missing')}"]
    told += [f"kid {header['kid']}"] if "kid" in header else []
    for name in ("iss", "aud", "sub", "role", "scope"):
        if name in claims:
            told.append(f"{name} {claims[name]}")
    told += [f"{name} {moment(claims[name])}" for name in ("iat", "nbf", "exp") if name in claims]
    return "a token: " + ", ".join(told)


def moment(value: object) -> str:
    """Unix seconds for people."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(value)


def voucher(raw: bytes, settings: Settings) -> IssuerSettings | None:
    """The [issuer NAME] whose iss is in the token."""
    iss = parts_of(raw)[1].get("iss")
    return next((each for each in settings.issuers if each.issuer == iss), None)


def opaque(raw: bytes, settings: Settings) -> bool:
    """Whether the server at [introspection] is asked about it."""
    if settings.introspection is None or voucher(raw, settings) is not None:
        return False
    return not settings.jwt.has_key or not parts_of(raw)[0]


def why_opaque(code: str) -> str:
    """Why a token that somebody else was asked about is not good."""
    if code == "introspection":
        return "the server that is asked about such tokens gives no answer"
    return "the server that is asked about it says it is not good, or not what the route takes"


def why_not_issuers(raw: bytes, issuer: IssuerSettings, signed: bool) -> str:
    """Why a token in an issuer's name is not good; C{signed}: its signature is."""
    alg = parts_of(raw)[0].get("alg")
    if signed:
        return f"it does not say what [issuer {issuer.name}] or the route asks of a token"
    if alg not in issuer.algorithms:
        return f"it is signed with {alg}; [issuer {issuer.name}] has {', '.join(issuer.algorithms)}"
    return f"its {alg} signature is not of a key that [issuer {issuer.name}] publishes now"


def why_unsigned(raw: bytes, algorithms: tuple[str, ...]) -> str:
    """Why the signature is not good."""
    header, _ = parts_of(raw)
    alg = header.get("alg")
    if alg not in algorithms:
        return f"it is signed with {alg}, and only {', '.join(algorithms)} may be"
    return f"its {alg} signature is not the configured key's"


def why_invalid(raw: bytes, rules: JwtSettings, now: float, proofs: bool = True) -> str:
    """
    Why a well-signed token is not good all the same, in the order in which it is judged.

    @param proofs: whether somebody looks at what it is bound to.
    """
    header, claims = parts_of(raw)
    if not header or not claims:
        return "it is not three parts of base64url that hold a header, claims and a signature"
    for name in ("crit", "b64", "zip"):
        if name in header:
            return f"its header has {name}, which is never accepted"
    if "exp" not in claims and rules.require_exp:
        return "it has no exp, and require_exp is on"
    nbf = claims.get("nbf")
    if isinstance(nbf, int | float) and nbf - rules.leeway > now:
        return f"it is not valid before {moment(nbf)}"
    if "cnf" in claims and not proofs:
        return "it is bound (cnf) to a key or certificate, and [dpop] and [mtls] are off"
    if rules.issuer and claims.get("iss") != rules.issuer:
        return f"its iss is {claims.get('iss', 'missing')}, not {rules.issuer}"
    if rules.audience and rules.audience not in _listed(claims.get("aud")):
        return f"its aud is {claims.get('aud', 'missing')}, not {rules.audience}"
    for name, value in (("sub", claims.get("sub")), (rules.role_claim, _role(claims, rules))):
        if not isinstance(value, str):
            return f"its {name} is {'missing' if value is None else 'no text'}"
        if field_text(value) is None:
            return f"its {name} can't be sent as a header value"
    return "its shape is not right (a member named twice, or a time that is no number)"


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _role(claims: dict[str, Any], rules: JwtSettings) -> object:
    return claim_of(claims, rules.role_claim) or rules.default_role
