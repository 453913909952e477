# -*- test-case-name: tests.test_shells -*-
"""
Lets any request on a public route past authentication, whatever it shows of who sends it;
refuses nothing, and hands requests on all other routes to whoever asks for proof.

Stands around stage 5 where there are public routes, so that no kind of credential is
looked at on these.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms


class PublicPassed(Shell):
    """
    The wrapper around C{authenticated}; C{terms} hold where no route has its own.

    @param inner: what comes behind authentication.
    """

    def __init__(self, authenticated: IResource, inner: IResource, terms: Terms) -> None:
        self._authenticated = authenticated
        self._inner = inner
        self._terms = terms

    def render(self, request: Any) -> Any:
        """Is the route public?"""
        if type(request) is Request:
            exchange = request.exchange
        else:
            _, exchange = exchange_of(request)
        if not (exchange.terms or self._terms).public:
            return self._authenticated.render(request)
        exchange.identity = None
        return self._inner.render(request)
