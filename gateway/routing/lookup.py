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
from gateway.routing.paths import carelessly, judge, split
from gateway.routing.table import RouteTable
from gateway.shell import Shell
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused

_REFUSED = Refused(Reason.PATH)

#: Good targets remembered, and their bytes at most: 4 MiB in all, then it starts anew.
_KEPT, _MAX_KEPT = 4096, 512


class LookedUp(Shell):
    """
    The wrapper around C{inner}.

    @param elsewhere: the terms of a request that no route takes.
    """

    def __init__(self, inner: IResource, routes: RouteTable[Terms], elsewhere: Terms) -> None:
        self._inner = inner
        self._routes = routes
        self._elsewhere = elsewhere
        self._known: dict[bytes, tuple[bytes, bytes, Terms | None, bytes]] = {}

    def render(self, request: Any) -> Any:
        """Judge the path, find its terms."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        exchange.path, exchange.query, exchange.terms, exchange.rest = self.find(face.head.target)
        if exchange.terms is None:
            exchange.terms = self._elsewhere
            return refuse(face, exchange, _REFUSED)
        return self._inner.render(request)

    def find(self, target: bytes) -> tuple[bytes, bytes, Terms | None, bytes]:
        """Path, query, terms (C{None}: refused) and the rest behind the prefix."""
        known = self._known.get(target)
        if known is not None:
            return known
        path, query = split(target)
        if not judge(path) and path != b"*":
            return path, query, None, b""
        found = self._routes.find(path)
        if (
            found is not None
            and (b"%" in path or b";" in path)
            and not self._routes.leads(carelessly(path), found[0])
        ):
            return path, query, None, b""
        terms, rest = found if found is not None else (self._elsewhere, b"")
        known = path, query, terms, rest
        if len(target) <= _MAX_KEPT:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[target] = known
        return known
