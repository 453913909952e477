# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets every request but OPTIONS through; answers OPTIONS with 200 and the CORS headers.

A preflight carries no token (Fetch standard, section 4.8), so this runs before
authentication. Where CORS is off, OPTIONS is a request like any other.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import grant
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms


class CORSAnswered(Shell):
    """The wrapper around C{inner}; C{terms} hold where no route has its own."""

    def __init__(self, inner: IResource, terms: Terms) -> None:
        self._inner = inner
        self._terms = terms

    def render(self, request: Any) -> Any:
        """Mark every answer; give the preflight's at once."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        cors = (exchange.terms or self._terms).cors
        if cors is None or not cors.enabled:
            return self._inner.render(request)
        origin = None
        for name, value in face.head.noted:
            if name == b"origin":
                origin = value
        if face.method == b"OPTIONS":
            return grant(face, cors.preflight(origin))
        face.add_lines(cors.lines(origin))
        return self._inner.render(request)
