# -*- test-case-name: tests.routing.test_shells -*-
"""
Lets a request through when the route's policy allows it; refuses with 403 or 405.

Runs after routing. The verdict rests on the request line, on verified claims, on the
client's address and on the time, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms


class Permitted(Shell):
    """
    The wrapper around C{inner}; C{terms} hold where no route has its own.

    @param now: the wall clock, unix seconds.
    """

    def __init__(self, inner: IResource, terms: Terms, now: Callable[[], float]) -> None:
        self._inner = inner
        self._terms = terms
        self._now = now

    def render(self, request: Any) -> Any:
        """Ask the policy."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        terms = exchange.terms or self._terms
        policy = terms.policy
        if policy is None or policy.open:
            return self._inner.render(request)
        # The moment at which the request came: what is asked twice gets the same answer.
        refused = policy.judge(
            face.method,
            exchange.identity,
            exchange.address,
            exchange.began or self._now(),
            exchange.path,
        )
        if refused is None:
            return self._inner.render(request)
        if terms.shadow is not None and terms.shadow.passes("require", exchange, refused):
            return self._inner.render(request)
        return refuse(face, exchange, refused)
