# -*- test-case-name: tests.upstream.test_shells -*-
"""
Lets a request through whose body is, and stays, within its bound; refuses with 413.

A declared length is judged before a byte is read; a chunked body is counted as it
streams and ended at the first byte too many, so nothing more of it is forwarded.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from gateway.answers import refuse
from gateway.exchange import Exchange, exchange_of
from gateway.http.request import Request
from gateway.shadow import Shadow
from gateway.shell import Shell
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused

TOO_LARGE = Refused(Reason.BODY_SIZE)


class SizeLimited(Shell):
    """The wrapper around C{inner}; C{terms} hold where no route has its own."""

    def __init__(self, inner: IResource, terms: Terms) -> None:
        self._inner = inner
        self._terms = terms

    def render(self, request: Any) -> Any:
        """Judge the declared length; have the rest counted."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        body = face.body
        if body is not None:
            terms = exchange.terms or self._terms
            most = terms.max_body
            if terms.shadow is not None and "body" in terms.shadow.gates:
                _watched(face, exchange, terms.shadow, most)
                return self._inner.render(request)
            if body.length > most or body.received > most:
                return refuse(face, exchange, TOO_LARGE)
            body.limit(most)
        return self._inner.render(request)


def _watched(face: Any, exchange: Exchange, shadow: Shadow, most: int) -> None:
    """Note a body that is larger, now or, where its length is not declared, at the end."""
    body, ended = face.body, face.on_end
    if body.length > most or body.received > most:
        shadow.passes("body", exchange, TOO_LARGE)
    elif body.length < 0:

        def end(face: Any, why: str) -> bytes:
            if body.received > most:
                shadow.passes("body", exchange, TOO_LARGE)
            return ended(face, why) if ended is not None else b""

        face.on_end = end
