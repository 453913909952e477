# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets every path but the gateway's own two through; answers GET and HEAD on these with 200.

C{/health} says that the gateway lives and where, C{/.well-known/gateway/jwks.json} has the
public keys of its assertions: to anybody, and nothing else about the inside.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.web.resource import IResource

from gateway.answers import grant
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell

#: The path nobody needs a token for.
HEALTH = b"/health"

#: Where the public keys are.
KEYS = b"/.well-known/gateway/jwks.json"

#: Both.
OWN = frozenset((HEALTH, KEYS))

#: What is published where nothing is signed.
NO_KEYS = b'{"keys": []}'

#: Services may remember keys for so long; a new key is published before it signs.
_KEY_LINES = b"Content-Type: application/jwk-set+json\r\nCache-Control: public, max-age=300\r\n"

_LINES = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"


class HealthAnswered(Shell):
    """
    The wrapper around C{inner}.

    @param edge: what this place is called.
    @param keys: the public keys, as they are published.
    """

    def __init__(self, inner: IResource, edge: str, keys: bytes = NO_KEYS) -> None:
        self._inner = inner
        self._keys = keys
        self._body = json.dumps({"status": "ok", "edge": edge}).encode("utf-8")

    def render(self, request: Any) -> Any:
        """Answer, or hand on."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        path = exchange.path or face.head.target.partition(b"?")[0]
        if path in OWN and face.method in (b"GET", b"HEAD"):
            if path == HEALTH:
                return grant(face, _LINES, self._body)
            return grant(face, _KEY_LINES, self._keys)
        return self._inner.render(request)
