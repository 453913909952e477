# -*- test-case-name: tests.test_generation -*-
"""
Lets a request through while fewer than so many are under way; refuses with 503.

Stands in the chain only where C{max_requests_in_flight} says so. Runs before
authentication: a gateway that has enough to do must not do arithmetic for more of it.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.cores import FlyingCore
from gateway.exchange import Exchange, exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.verdicts import Reason, Refused

_REFUSED = Refused(Reason.IN_FLIGHT, retry_after=1)


class Flying(FlyingCore):
    """
    How many requests are under way; one for all configurations, as those under way when
    another one comes are still under way.
    """

    __slots__ = ()

    count: int

    def __init__(self) -> None:
        self.count = 0


class InFlightLimited(Shell):
    """
    The wrapper around C{inner}.

    @param most: requests under way at once.
    """

    def __init__(self, inner: IResource, flying: Flying, most: int) -> None:
        self._inner = inner
        self._flying = flying
        self._most = most

    def render(self, request: Any) -> Any:
        """Count it until its end."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        if not self.enter(face, exchange):
            return self.refuse(face, exchange)
        return self._inner.render(request)

    def enter(self, face: Any, exchange: Exchange) -> bool:
        """Whether there is room; if so, it is taken until the request's end."""
        flying = self._flying
        if flying.count >= self._most:
            return False
        flying.count += 1
        exchange.on_landed = face.on_end
        face.on_end = self._landed
        return True

    def refuse(self, face: Any, exchange: Exchange) -> int:
        """There is none."""
        return refuse(face, exchange, _REFUSED)

    def _landed(self, face: Any, why: str) -> bytes:
        self._flying.count -= 1
        on_landed = face.exchange.on_landed
        return on_landed(face, why) if on_landed is not None else b""
