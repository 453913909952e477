# -*- test-case-name: tests.explain.test_credentials -*-
"""
Says in words what became of a credential that is no bearer token alone: an API key, a client
certificate, a token with a proof. Decides nothing, and shows none of them.
"""

from __future__ import annotations

from typing import Any

from gateway.admission.tokens import bearer
from gateway.explain.run import Seen
from gateway.explain.tokens import parts_of, shown
from gateway.settings.origins import Origin
from gateway.verdicts import Refused

#: What was seen, why, and the settings.
Words = tuple[str, str, list[Origin]]

_KEY = {
    "credentials": "there is another credential beside it; only one may come",
    "no_token": "the route takes no API keys",
    "key": "it is not on file",
    "expired": "it has expired",
    "token": "one of its claims can't be sent as a header value",
}
_CERTIFICATE = {
    "certificate": "the route asks for one that an authority of ca_file has issued and that is "
    "valid now",
    "certificate_unreadable": "what the proxy tells of it can't be read",
}
_PROOF = {
    "proof": "its proof is missing, not of its key, not for this request, too old or used before",
    "proof_nonce": "its proof needs a nonce of this gateway; the answer has one",
    "proof_memory": "no more proofs can be remembered now",
    "store": "the store that remembers proofs can't be asked",
}


def words(seen: Seen, passed: bool) -> Words | None:
    """What to say; C{None} where a bearer token is all there is to it."""
    proofs = seen.parts.proofs
    if proofs is None:
        return None
    code = "" if passed else seen.code("Authenticated")
    noted = {name for name, _ in seen.face.head.noted}
    if code in _CERTIFICATE:
        return "a client certificate", _CERTIFICATE[code], _of(seen, "mtls", "mode", "ca_file")
    if proofs.keys is not None and proofs.key_header in noted:
        return _key(seen, code)
    raw = bearer(seen.face.authorization)
    if isinstance(raw, Refused):
        return _no_token(seen, code)
    if code == "no_token":
        return shown(raw), "the route takes no such token, or not alone", _route(seen)
    if code == "proof" and "cnf" not in parts_of(raw)[1] and b"dpop" in noted:
        why = "it is bound to no key, so no proof can be for it"
        return shown(raw), why, _of(seen, "dpop", "mode")
    if code == "proof" and b"dpop" not in noted:
        why = "it is bound (cnf) to a key or certificate that was not shown"
        return shown(raw), why, [*_of(seen, "dpop", "mode"), *_of(seen, "mtls", "mode")]
    if code in _PROOF:
        return shown(raw), _PROOF[code], _of(seen, "dpop", "mode", "lifetime", "leeway")
    return None


def _key(seen: Seen, code: str) -> Words:
    identity, settings = seen.exchange.identity, _of(seen, "apikeys", "file")
    if code in _KEY:
        return "an API key", _KEY[code], settings if code in ("key", "expired") else _route(seen)
    if code == "limit_refused":
        why = f"its address has sent too many refused credentials: {seen.said('Authenticated')}"
        return "an API key", why, _of(seen, "ratelimit", "refused")
    if code == "revoked":
        return "an API key", f"it has been revoked: {seen.said('Authenticated')}", []
    if code or identity is None:
        return "an API key", code or "nobody asked for it", settings
    why = f"it is on file as {identity.key}; user {identity.user}, role {identity.role}"
    return "an API key", why, settings


def _no_token(seen: Seen, code: str) -> Words | None:
    """Neither key nor token: a certificate may say who calls."""
    identity = seen.exchange.identity
    if code == "revoked":
        why = f"it has been revoked: {seen.said('Authenticated')}"
        return "a client certificate", why, []
    if code == "" and identity is not None:
        why = f"it says who calls: user {identity.user}, role {identity.role}"
        return "a client certificate", why, _of(seen, "mtls", "user", "ca_file")
    if code == "token":
        why = "one of its claims can't be sent as a header value"
        return "a client certificate", why, []
    return None


def _of(seen: Seen, section: str, *names: str) -> list[Origin]:
    """Options as they hold for the route; those that stand in the file, if any does."""
    origins: Any = seen.settings.origins
    found = [origins.of(section, name, seen.route) for name in names]
    return [each for each in found if each.line] or found[:1]


def _route(seen: Seen) -> list[Origin]:
    """What a route says of credentials."""
    origins: Any = seen.settings.origins
    auth = origins.route(seen.route, "auth")
    modes = [*_of(seen, "dpop", "mode"), *_of(seen, "mtls", "mode")]
    return [auth] if auth.line else [each for each in modes if each.line]
