# -*- test-case-name: tests.routing.test_shells -*-
"""
Lets a request through when the route's policy allows it; refuses with 403 or 405.

Runs after routing. The verdict rests on the request line's method and on verified
claims, on nothing else.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms


class Permitted(Shell):
    """The wrapper around C{inner}; C{terms} hold where no route has its own."""

    def __init__(self, inner: IResource, terms: Terms) -> None:
        self._inner = inner
        self._terms = terms

    def render(self, request: Any) -> Any:
        """Ask the policy."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        policy = (exchange.terms or self._terms).policy
        if policy is None or policy.open:
            return self._inner.render(request)
        identity = exchange.identity
        role, claims = (identity.role, identity.claims) if identity is not None else ("", {})
        refused = policy.judge(face.method, role, claims)
        if refused is None:
            return self._inner.render(request)
        return refuse(face, exchange, refused)
