# -*- test-case-name: tests.routing.test_shells -*-
"""
Lets a request through whose path means one thing only; refuses any other with 400.

Looks its route up by the way, silently: the route's terms hold from here on, but that
there is none is told after authentication only (L{gateway.routing.router}). Route and
verdicts depend on the request line alone, never on a header.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.routing.paths import judge, split
from gateway.routing.table import RouteTable
from gateway.shell import Shell
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused

_REFUSED = Refused(Reason.PATH)


class LookedUp(Shell):
    """
    The wrapper around C{inner}.

    @param elsewhere: the terms of a request that no route takes.
    """

    def __init__(self, inner: IResource, routes: RouteTable[Terms], elsewhere: Terms) -> None:
        self._inner = inner
        self._routes = routes
        self._elsewhere = elsewhere

    def render(self, request: Any) -> Any:
        """Judge the path, find its terms."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        path, query = split(face.head.target)
        exchange.path = path
        exchange.query = query
        exchange.terms = self._elsewhere
        if not judge(path) and path != b"*":
            return refuse(face, exchange, _REFUSED)
        found = self._routes.find(path)
        if found is not None:
            exchange.terms, exchange.rest = found
        return self._inner.render(request)
