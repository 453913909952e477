# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets a request with a valid token through; refuses with 401, 400 for two tokens, or 503
where nobody can be asked.

Runs before the rate limit, whose key it provides, and before the route is told, so
that a stranger learns nothing. Who calls may be known already, by another proof than a
token: then the request goes on. Keys are in memory; a request waits only for a key that
its issuer may have added since, or for what the issuer says of an opaque token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from gateway.admission.refused import RefusedLimit
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Unsettled, bearer
from gateway.admission.windows import refused_lines
from gateway.answers import refuse
from gateway.exchange import Exchange, exchange_of
from gateway.http.request import Request
from gateway.shell import Shell, answer_late
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused


class Authenticated(Shell):
    """
    The wrapper around C{inner}; C{terms} hold where no route has its own.

    @param now: the wall clock, unix seconds.
    """

    _log = Logger()

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
        if exchange.identity is not None:
            return self._inner.render(request)
        raw = bearer(face.authorization)
        if isinstance(raw, Refused):
            return refuse(face, exchange, raw)
        return self._first(request, face, exchange, raw, self._now())

    def _first(self, request: Any, face: Any, exchange: Exchange, raw: bytes, now: float) -> Any:
        """Somebody comes with a token."""
        return self._look(request, face, exchange, raw, now, now)

    def _look(
        self, request: Any, face: Any, exchange: Exchange, raw: bytes, now: float, since: float
    ) -> Any:
        """Hand on, answer, or wait; C{since}: when this request was looked at first."""
        rules = (exchange.terms or self._terms).identity
        found = self._tokens.identify(raw, rules, now)
        if isinstance(found, Refused):
            return self._refuse(face, exchange, found, now)
        if isinstance(found, Unsettled):
            return self._wait(request, face, exchange, raw, found, since)
        exchange.identity = found
        return self._inner.render(request)

    def _wait(
        self, request: Any, face: Any, exchange: Exchange, raw: bytes, unsettled: Unsettled,
        since: float,
    ) -> Any:  # fmt: skip
        """Look again when somebody outside has been asked."""
        asked = unsettled.ask(raw, max(0.0, self._now() - since))
        if isinstance(asked, Refused):
            return self._refuse(face, exchange, asked, self._now())
        # Armed before the first wait: the client may leave while somebody is asked.
        face.on_cut = lambda _why: asked.cancel()

        def again(_: object) -> None:
            face.on_cut = None
            result = self._look(request, face, exchange, raw, self._now(), since)
            answer_late(request, result)

        def failed(failure: Failure) -> None:
            face.on_cut = None
            if not failure.check(CancelledError):
                self._log.failure("a token could not be looked at", failure)
                refuse(face, exchange, Refused(Reason.INTERNAL))

        waiting: Deferred[None] = asked
        waiting.addCallback(again).addErrback(failed)
        return NOT_DONE_YET

    def _refuse(self, face: Any, exchange: Exchange, refused: Refused, now: float) -> Any:
        return refuse(face, exchange, refused)


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

    def _first(self, request: Any, face: Any, exchange: Exchange, raw: bytes, now: float) -> Any:
        """Known tokens go on whatever their address has sent."""
        if raw not in self._tokens:
            count = self._limit.exceeded(_address_key(exchange), int(now * 1_000_000))
            if count is not None:
                name = count.window.name
                refusal = Refused(Reason.LIMIT_REFUSED, count.retry_after, limit=name)
                shadow = (exchange.terms or self._terms).shadow
                if shadow is None or not shadow.passes("ratelimit", exchange, refusal):
                    face.add_lines(refused_lines(count))
                    return refuse(face, exchange, refusal)
        return super()._first(request, face, exchange, raw, now)

    def _refuse(self, face: Any, exchange: Exchange, refused: Refused, now: float) -> Any:
        """What nobody could say anything about is not counted against its address."""
        if refused.reason.status == 401:
            self._limit.refused(_address_key(exchange), int(now * 1_000_000))
        return refuse(face, exchange, refused)


def _address_key(exchange: Exchange) -> str:
    return exchange.address.limit_key if exchange.address is not None else "ip:unknown"
