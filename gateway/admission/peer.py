# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets a request through once it is known whose address it comes from; refuses with 400
what a trusted proxy says in a way that can't be understood.

Runs first of all stages, so that every other one, and the audit, means the same client.
An untrusted peer is its own client, whatever its headers say.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.admission.peers import TrustedProxies
from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.verdicts import Refused

_NONE: tuple[bytes, ...] = ()


class PeerNamed(Shell):
    """
    The wrapper around C{inner}.

    @param header: the field in which trusted proxies name the client, lower case.
    """

    def __init__(self, inner: IResource, proxies: TrustedProxies, header: str) -> None:
        self._inner = inner
        self._proxies = proxies
        self._header = header.lower().encode("ascii")

    def render(self, request: Any) -> Any:
        """Name the client."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        peer = exchange.peer = face.peer
        direct = self._proxies.direct.get(peer)
        if direct is not None:
            exchange.address = direct
            return self._inner.render(request)
        trusted = exchange.trusted = self._proxies.trusts(peer)
        values = (
            [value for name, value in face.head.noted if name == self._header] if trusted else _NONE
        )
        client = self._proxies.client(peer, values)
        if isinstance(client, Refused):
            return refuse(face, exchange, client)
        exchange.address = client
        return self._inner.render(request)
