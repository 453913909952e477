# -*- test-case-name: tests.admission.test_tokens -*-
"""
Lets a token through whose signature is the configured key's and whose shape is beyond
doubt (RFC 7515, RFC 7519); refuses any other with 401.

Independent of time and of the route: what is found here holds for as long as the key
does. The token's header chooses nothing: C{alg} must be an allowed one, C{kid}, C{jwk},
C{jku} and C{x5u} are never looked at, C{crit}, C{b64} and C{zip} are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from sys import getsizeof
from typing import Any, Protocol

from gateway.jose import PART, json_object, unbase64
from gateway.keys import VerificationKey
from gateway.verdicts import Reason, Refused


def challenge(reason: Reason) -> bytes:
    """The WWW-Authenticate line of a 401 (RFC 6750 section 3)."""
    if reason is Reason.NO_TOKEN:
        # RFC 6750 section 3.1: no error code when no token came.
        return b'WWW-Authenticate: Bearer realm="gateway"\r\n'
    return (
        b'WWW-Authenticate: Bearer realm="gateway", error="invalid_token", '
        b'error_description="%s"\r\n' % reason.sentence.encode("ascii")
    )


NO_TOKEN = Refused(Reason.NO_TOKEN, lines=challenge(Reason.NO_TOKEN))
SIGNATURE = Refused(Reason.SIGNATURE, lines=challenge(Reason.SIGNATURE))
EXPIRED = Refused(Reason.EXPIRED, lines=challenge(Reason.EXPIRED))
INVALID = Refused(Reason.TOKEN, lines=challenge(Reason.TOKEN))
REPEATED = Refused(Reason.AUTHORIZATION_REPEATED)


def bearer(values: Sequence[bytes]) -> bytes | Refused:
    """The raw token in the Authorization fields' values, of which there may be one."""
    if len(values) != 1:
        return REPEATED if values else NO_TOKEN
    value = values[0]
    if value[:7].lower() != b"bearer ":
        return NO_TOKEN
    return value[7:]


@dataclass(slots=True)
class VerifiedToken:
    """
    A token whose signature and shape are right.

    @ivar exp: unix seconds, or C{None}.
    @ivar nbf: the same.
    @ivar size: bytes it takes in memory, estimated.
    @ivar issuer: the C{[issuer NAME]} that has vouched for it; empty: the local key.
    @ivar key: the very key, where it is one of several.
    @ivar until: unix seconds after which it must be verified again.
    """

    claims: dict[str, Any]
    exp: float | None
    nbf: float | None
    size: int
    issuer: str = ""
    key: Any = None
    until: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Unsettled:
    """
    Nobody here can say yet: keys must be fetched, or the issuer asked, first.

    @ivar ask: called with the raw token and the seconds already waited; returns a Deferred
        that fires when looking again makes sense, or a L{Refused} when waiting does not.
    """

    ask: Callable[[bytes, float], Any]


class IVerifier(Protocol):
    """Who knows whether a token is genuine."""

    def verify(self, raw: bytes, now: float = 0.0) -> VerifiedToken | Refused | Unsettled:
        """What the raw token is; C{now} is unix seconds."""


class Verifier:
    """Verifies tokens with one key."""

    def __init__(self, key: VerificationKey) -> None:
        self._key = key

    def verify(self, raw: bytes, now: float = 0.0) -> VerifiedToken | Refused:
        """Signature first, then shape; never raises, whatever the bytes are."""
        parts = raw.split(b".")
        if len(parts) != 3:
            return INVALID
        if not parts[2]:
            # An unsigned token (RFC 7518 section 3.6) is told so.
            return SIGNATURE if json_object(unbase64(parts[0])) is not None else INVALID
        signature = unbase64(parts[2])
        header = json_object(unbase64(parts[0]))
        if header is None or signature is None or PART.fullmatch(parts[1]) is None:
            return INVALID
        if not self._key.verify(header.get("alg"), raw[: -len(parts[2]) - 1], signature):
            return SIGNATURE
        claims = json_object(unbase64(parts[1]))
        if claims is None or not plain(header):
            return INVALID
        return timed(raw, claims)


def key_id(raw: bytes) -> str:
    """The key that a token's header names; empty: none. It chooses nothing."""
    header = json_object(unbase64(raw.partition(b".")[0]))
    kid = header.get("kid") if header is not None else None
    return kid if isinstance(kid, str) else ""


def plain(header: dict[str, Any]) -> bool:
    """Whether nothing in the header changes what the rest means (RFC 7515 4.1.11, RFC 8725 3.6)."""
    return "crit" not in header and "b64" not in header and "zip" not in header


def timed(raw: bytes, claims: dict[str, Any]) -> VerifiedToken | Refused:
    """The token, if the times in it are any."""
    exp, nbf = claims.get("exp"), claims.get("nbf")
    if ("exp" in claims and not _is_time(exp)) or ("nbf" in claims and not _is_time(nbf)):
        return INVALID
    return VerifiedToken(claims, exp, nbf, _size(raw, claims))


def _is_time(value: object) -> bool:
    """A NumericDate (RFC 7519 section 2): a finite number, and a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _size(raw: bytes, claims: dict[str, Any]) -> int:
    """
    What the cache pays for it: the raw bytes, the parsed claims and one identity made of
    them. Measured on tokens of 130 bytes to 4 KiB it is never less than the truth.
    """
    return 600 + 2 * len(raw) + _weight(claims)


def _weight(value: object) -> int:
    """What a claim takes, and all that is in it."""
    weight = getsizeof(value)
    if isinstance(value, dict):
        weight += sum(getsizeof(name) + _weight(member) for name, member in value.items())
    elif isinstance(value, list):
        weight += sum(map(_weight, value))
    return weight
