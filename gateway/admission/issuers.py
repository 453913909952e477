# -*- test-case-name: tests.admission.test_rfc8725 -*-
"""
Lets a token through that its issuer's key has signed; refuses any other with 401, and asks
for a wait where the key may be on its way.

C{iss} chooses whose keys count, before anything in the token is trusted, and nothing but
those keys is tried then. C{alg} must be one that the configuration allows that issuer, and
that the key was bound to when it was loaded; C{kid} only selects among the issuer's keys.
C{jku}, C{x5u}, C{jwk} and C{x5c} are never looked at (RFC 8725 section 3.10).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from gateway.admission.keysets import KeySet
from gateway.admission.tokens import (
    INVALID,
    SIGNATURE,
    IVerifier,
    Unsettled,
    VerifiedToken,
    plain,
    timed,
)
from gateway.jose import json_object, unbase64
from gateway.jwks import MAX_KID, NamedKey
from gateway.verdicts import Refused


class Issuer:
    """
    Verifies the tokens of one issuer.

    @param name: as in C{[issuer NAME]}.
    @param iss: what C{iss} is, exactly.
    @param types: what C{typ} may be, in small letters; C{jwt} stands for none, too. Empty:
        not looked at.
    @param ask: see L{Unsettled}.
    """

    def __init__(
        self, name: str, iss: str, algorithms: Collection[str], types: Collection[str],
        keys: KeySet, ask: Callable[[bytes, float], Any],
    ) -> None:  # fmt: skip
        self.name = name
        self.iss = iss
        self._algorithms = frozenset(algorithms)
        self._types = frozenset(types)
        self._keys = keys
        self._unsettled = Unsettled(ask)

    def verify(
        self, raw: bytes, parts: Sequence[bytes], header: dict[str, Any], claims: dict[str, Any]
    ) -> VerifiedToken | Refused | Unsettled:
        """A token whose C{iss} is this issuer's; its parts, and what is in them."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            return SIGNATURE
        signature = unbase64(parts[2])
        if signature is None:
            return INVALID if parts[2] else SIGNATURE
        if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID):
            return INVALID
        found = self._judge(raw, header, claims)
        ring = self._keys.ring
        key = ring.find(kid, algorithm) if ring is not None else None
        if key is None:
            # What would be refused in any case is not worth a fetch.
            if isinstance(found, Refused):
                return found
            named = kid is not None and ring is not None and ring.names(kid)
            return SIGNATURE if named else self._unsettled
        signed = raw[: -len(parts[2]) - 1]
        if not key.key.verify(algorithm, signed, signature):
            # An issuer that does not name its keys may have changed the only one.
            return SIGNATURE if kid is not None or isinstance(found, Refused) else self._unsettled
        if isinstance(found, VerifiedToken):
            found.issuer, found.key = self.name, key
        return found

    def _judge(
        self, raw: bytes, header: dict[str, Any], claims: dict[str, Any]
    ) -> VerifiedToken | Refused:
        return timed(raw, claims) if plain(header) and self._meant(header) else INVALID

    def _meant(self, header: dict[str, Any]) -> bool:
        """Whether the token is of a kind that is meant for services (RFC 8725 section 3.11)."""
        if not self._types:
            return True
        kind = header.get("typ", "jwt")
        # RFC 7515 section 4.1.9: the prefix may be left out, case does not count.
        return isinstance(kind, str) and kind.lower().removeprefix("application/") in self._types


class Issuers:
    """
    Verifies the tokens of several issuers.

    @param local: for tokens of nobody else; C{None}: they are refused.
    @param opaque: for what is no token of these; C{None}: it is refused.
    """

    def __init__(
        self, issuers: Sequence[Issuer], local: IVerifier | None, opaque: IVerifier | None = None
    ) -> None:
        self._issuers = {issuer.iss: issuer for issuer in issuers}
        self._local = local
        self._opaque = opaque

    def verify(self, raw: bytes, now: float = 0.0) -> VerifiedToken | Refused | Unsettled:
        """Choose by C{iss}, then have it verified; never raises, whatever the bytes are."""
        parts = raw.split(b".")
        header = claims = None
        if len(parts) == 3:
            header = json_object(unbase64(parts[0]))
            claims = json_object(unbase64(parts[1])) if header is not None else None
        if header is not None and claims is not None:
            iss = claims.get("iss")
            issuer = self._issuers.get(iss) if isinstance(iss, str) else None
            if issuer is not None:
                return issuer.verify(raw, parts, header, claims)
        if self._local is not None and (header is not None or self._opaque is None):
            return self._local.verify(raw, now)
        if self._opaque is not None:
            return self._opaque.verify(raw, now)
        return INVALID


def named(keys: Sequence[NamedKey]) -> str:
    """Keys for people."""
    return ", ".join(str(key) for key in keys) or "none"
