# -*- test-case-name: tests.upstream.test_shells -*-
"""
Lets a request through while the upstream's circuit is closed, or as its one trial;
refuses with 503.

Runs just before forwarding, which reports how it went. It waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.verdicts import Reason, Refused


class CircuitBroken(Shell):
    """
    The wrapper around C{inner}.

    @param clock: monotonic seconds.
    """

    def __init__(self, inner: IResource, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._clock = clock

    def render(self, request: Any) -> Any:
        """Ask the target's circuit for a permit."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        terms = exchange.terms
        if terms is not None and terms.target is not None:
            permit = terms.target.circuit.admit(self._clock())
            if not isinstance(permit, Refused):
                exchange.permit = permit
            elif terms.shadow is None or not terms.shadow.passes("breaker", exchange, permit):
                return refuse(face, exchange, permit)
        return self._inner.render(request)


def refused(retry_after: int) -> Refused:
    """The circuit is open for that many more seconds."""
    return Refused(Reason.CIRCUIT, retry_after)
