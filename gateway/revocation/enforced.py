# -*- test-case-name: tests.revocation.test_enforced -*-
"""
Makes a revocation felt: refuses revoked tokens when they are verified (401), API keys and
certificates at each request, forgets tokens that were verified before, and ends what their
users are in the middle of. Lets all others go on undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gateway.admission.tokens import challenge, key_id
from gateway.answers import refuse
from gateway.revocation.entries import KID, Entry, Revocations
from gateway.verdicts import Reason, Refused

if TYPE_CHECKING:
    from gateway.admission.identity import Identity
    from gateway.admission.token_cache import TokenCache
    from gateway.http.request import Request
    from gateway.http.site import Site

_LINES = challenge(Reason.REVOKED)


def refusal(revocations: Revocations) -> Callable[[bytes, Identity], Refused | None]:
    """What L{gateway.admission.token_cache.TokenCache.revoked} asks."""

    def revoked(raw: bytes, identity: Identity) -> Refused | None:
        if not revocations.any:
            return None
        entry = revocations.revoked(
            identity.user, identity.claims, key_id(raw), identity.key
        )
        return _refused(entry) if entry is not None else None

    return revoked


def _refused(entry: Entry) -> Refused:
    detail = f"{entry.kind}: {entry.reason}" if entry.reason else entry.kind
    return Refused(Reason.REVOKED, lines=_LINES, detail=detail)


def obey(entries: Iterable[Entry], tokens: TokenCache, site: Site) -> tuple[int, int]:
    """
    Entries have come into force.

    @return: verified tokens that were forgotten, and requests that were cut.
    """
    coming = Revocations()
    kids = False
    for entry in entries:
        coming.merge([entry], 0.0)
        kids = kids or entry.kind == KID
    if kids:
        # Which key a token names is not kept with it: all are verified once more.
        forgotten = tokens.forget(lambda token: True)
    else:
        forgotten = tokens.forget(lambda token: _is_revoked(coming, token.claims))
    return forgotten, _cut(coming, site)


def _is_revoked(coming: Revocations, claims: dict[str, Any]) -> bool:
    user = claims.get("sub")
    return coming.revoked(user if isinstance(user, str) else "", claims, "") is not None


def _cut(coming: Revocations, site: Site) -> int:
    cut = 0
    for request in site.requests():
        identity = request.exchange.identity
        if identity is None:
            continue
        values = request.authorization
        kid = key_id(values[0].partition(b" ")[2]) if values else ""
        entry = coming.revoked(identity.user, identity.claims, kid, identity.key)
        if entry is not None:
            _end(request, _refused(entry))
            cut += 1
    return cut


def _end(request: Request, refused: Refused) -> None:
    """Refuse who has no answer yet; cut an answer that has begun."""
    if request.started:
        request.exchange.reason = refused.reason.code
        request.exchange.detail = refused.detail
        request.abort()
        return
    on_cut, request.on_cut = request.on_cut, None
    if on_cut is not None:
        on_cut(refused.reason.code)
    refuse(request, request.exchange, refused)
