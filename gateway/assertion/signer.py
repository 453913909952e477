# -*- test-case-name: tests.assertion.test_signer -*-
"""
Says to an upstream, signed, who calls and on which route: a JWT (RFC 7519) of a minute in
C{X-Gateway-Assertion}. Speaks of authenticated users only.

What depends on the user and the route alone is signed once in half its life and kept with
the identity, so that a request that comes again pays a look-up. What binds the request
itself is signed each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import ceil
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

from gateway.assertion.keys import SigningKey, base64url

if TYPE_CHECKING:
    from gateway.admission.identity import Identity

#: The header field.
FIELD = b"X-Gateway-Assertion"

#: The JWT's type: no other token of this key, or of another issuer, is taken for it (RFC 8725
#: section 3.11).
TYPE = "gateway-assertion+jwt"

#: Routes whose assertions are kept with one identity; more start anew.
KEPT = 4


class Assertion:
    """
    What one route's upstream is told.

    @param issuer: C{iss}.
    @param audience: C{aud}: the upstream.
    @param route: the prefix.
    @param lifetime: seconds.
    @param binds: whether each request is told with its method, path and identifier.
    """

    __slots__ = ("_audience", "_header", "_issuer", "_lifetime", "_route", "_sign", "binds")

    def __init__(
        self, key: SigningKey, issuer: str, audience: str, route: str, lifetime: float, binds: bool
    ) -> None:
        self._header = base64url(_json({"alg": key.algorithm, "kid": key.kid, "typ": TYPE})) + b"."
        self._sign = key.sign
        self._issuer = issuer
        self._audience = audience
        self._route = route
        self._lifetime = lifetime
        self.binds = binds

    def line(
        self, identity: Identity, now: float, method: bytes, path: bytes, request_id: bytes
    ) -> bytes:
        """
        The field's line, CRLF included; C{now} is unix seconds.

        @param path: as the upstream gets it, query included.
        """
        if self.binds:
            request = {
                "method": method.decode("ascii"),
                "path": path.decode("ascii"),
                "request_id": request_id.decode("ascii"),
            }
            return self._signed(identity, now, request)[0]
        kept = identity.asserted
        if kept is None:
            kept = identity.asserted = {}
        found = kept.get(self)
        if found is not None and found[1] <= now < found[2]:
            return found[0]  # type: ignore[no-any-return]
        line, end = self._signed(identity, now, {})
        if len(kept) >= KEPT:
            kept.clear()
        kept[self] = line, now, now + (end - now) / 2
        return line

    def _signed(
        self, identity: Identity, now: float, more: Mapping[str, str]
    ) -> tuple[bytes, float]:
        end = min(now + self._lifetime, identity.expires)
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": identity.user,
            "aud": self._audience,
            "iat": int(now),
            # Rounded up: what is good for less than a second is still good.
            "exp": ceil(end),
            "jti": token_urlsafe(16),
            "role": identity.role,
            "scope": _scope(identity.claims),
            "route": self._route,
            **more,
        }
        signed = self._header + base64url(_json(claims))
        return b"%b: %b.%b\r\n" % (FIELD, signed, base64url(self._sign(signed))), end


def _scope(claims: Mapping[str, Any]) -> str:
    """The token's scopes as one text (RFC 8693 section 4.2)."""
    value = claims.get("scope", claims.get("scp"))
    if isinstance(value, list):
        return " ".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) else ""


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
