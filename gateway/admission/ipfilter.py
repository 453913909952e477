# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets a request through when its client's address is allowed; refuses with 403.

Runs after L{gateway.admission.peer}, which says whose address counts. Needs nobody's help.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused

_REFUSED = Refused(Reason.ADDRESS)


class IPFiltered(Shell):
    """The wrapper around C{inner}; C{terms} hold where no route has its own."""

    def __init__(self, inner: IResource, terms: Terms) -> None:
        self._inner = inner
        self._terms = terms

    def render(self, request: Any) -> Any:
        """Ask the address rules."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        terms = exchange.terms or self._terms
        rules = terms.addresses
        if rules.open or rules.admits(exchange.address):
            return self._inner.render(request)
        if terms.shadow is not None and terms.shadow.passes("ip", exchange, _REFUSED):
            return self._inner.render(request)
        return refuse(face, exchange, _REFUSED)
