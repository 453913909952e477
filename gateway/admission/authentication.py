# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets a request with a valid token through; refuses with 401, or 400 for two tokens.

Runs before the rate limit, whose key it provides, and before the route is told, so
that a stranger learns nothing. Needs nobody's help: keys are in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import IResource

from gateway.admission.refused import RefusedLimit
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import bearer
from gateway.admission.windows import refused_lines
from gateway.answers import refuse
from gateway.exchange import exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused


class Authenticated(Shell):
    """
    The wrapper around C{inner}; C{terms} hold where no route has its own.

    @param now: the wall clock, unix seconds.
    """

    def __init__(
        self, inner: IResource, tokens: TokenCache, terms: Terms, now: Callable[[], float]
    ) -> None:
        self._inner = inner
        self._tokens = tokens
        self._terms = terms
        self._now = now

    def render(self, request: Any) -> Any:
        """Ask the verified-token cache, which asks the keys."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        raw = bearer(face.authorization)
        if isinstance(raw, Refused):
            return refuse(face, exchange, raw)
        rules = (exchange.terms or self._terms).identity
        identity = self._tokens.identify(raw, rules, self._now())
        if isinstance(identity, Refused):
            return refuse(face, exchange, identity)
        exchange.identity = identity
        return self._inner.render(request)


class Guarded(Authenticated):
    """
    The same where an address may send only so many tokens that are refused.

    @param limit: who has sent how many.
    """

    def __init__(
        self, inner: IResource, tokens: TokenCache, terms: Terms, now: Callable[[], float],
        limit: RefusedLimit,
    ) -> None:  # fmt: skip
        super().__init__(inner, tokens, terms, now)
        self._limit = limit

    def render(self, request: Any) -> Any:
        """Known tokens go on whatever their address has sent."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        raw = bearer(face.authorization)
        if isinstance(raw, Refused):
            return refuse(face, exchange, raw)
        seconds = self._now()
        now = int(seconds * 1_000_000)
        key = exchange.address.limit_key if exchange.address is not None else "ip:unknown"
        if raw not in self._tokens:
            count = self._limit.exceeded(key, now)
            if count is not None:
                name = count.window.name
                refusal = Refused(Reason.LIMIT_REFUSED, count.retry_after, limit=name)
                shadow = (exchange.terms or self._terms).shadow
                if shadow is None or not shadow.passes("ratelimit", exchange, refusal):
                    face.add_lines(refused_lines(count))
                    return refuse(face, exchange, refusal)
        rules = (exchange.terms or self._terms).identity
        identity = self._tokens.identify(raw, rules, seconds)
        if isinstance(identity, Refused):
            self._limit.refused(key, now)
            return refuse(face, exchange, identity)
        exchange.identity = identity
        return self._inner.render(request)
