# -*- test-case-name: tests.routing.test_shells -*-
"""
Lets a request through when a route takes its path; refuses with 404.

Runs after authentication and the limit, so that only known users, at their pace, learn
which paths exist.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.verdicts import Reason, Refused

_REFUSED = Refused(Reason.ROUTE)


class Routed(Shell):
    """The wrapper around C{inner}."""

    def __init__(self, inner: IResource) -> None:
        self._inner = inner

    def render(self, request: Any) -> Any:
        """Was a route found?"""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        if exchange.terms is None or not exchange.terms.route:
            return refuse(face, exchange, _REFUSED)
        return self._inner.render(request)
