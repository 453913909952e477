# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets every path but C{/health} through; answers GET and HEAD on that with 200.

Says that the gateway lives and where, to anybody, and nothing else about the inside.
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

_LINES = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"


class HealthAnswered(Shell):
    """The wrapper around C{inner}; C{edge} is what this place is called."""

    def __init__(self, inner: IResource, edge: str) -> None:
        self._inner = inner
        self._body = json.dumps({"status": "ok", "edge": edge}).encode("utf-8")

    def render(self, request: Any) -> Any:
        """Answer, or hand on."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        path = exchange.path or face.head.target.partition(b"?")[0]
        if path == HEALTH and face.method in (b"GET", b"HEAD"):
            return grant(face, _LINES, self._body)
        return self._inner.render(request)
