# -*- test-case-name: tests.admission.test_shells -*-
"""
Lets a request through while its user is under the limit; refuses with 429.

Runs after authentication (the key is a verified claim, or the client's address). A
token that lacks the claim the key names is refused with 401. If the store of counters
can't be asked, the request is refused with 503.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from gateway.admission.identity import Identity, claim_of
from gateway.admission.pending import Pending
from gateway.admission.tokens import challenge
from gateway.admission.windows import Count, refused_lines
from gateway.answers import refuse
from gateway.exchange import Exchange, exchange_of
from gateway.http.request import Request
from gateway.interfaces import IBuckets
from gateway.shell import Shell, afterwards
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused

_NO_KEY = Refused(Reason.TOKEN, lines=challenge(Reason.TOKEN), detail="ratelimit.key")
_STORE = Refused(Reason.STORE, retry_after=1)


class RateLimited(Shell):
    """
    The wrapper around C{inner}; C{terms} hold where no route has its own.

    @param now: the wall clock, unix seconds.
    """

    def __init__(
        self, inner: IResource, buckets: IBuckets, terms: Terms, now: Callable[[], float]
    ) -> None:
        self._inner = inner
        self._buckets = buckets
        self._terms = terms
        self._now = now

    def render(self, request: Any) -> Any:
        """Count; a count known now is acted upon now."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        terms = exchange.terms or self._terms
        now = int(self._now() * 1_000_000)
        identity = exchange.identity
        if terms.by_sub and identity is not None and identity.rate is None:
            count = self._buckets.take(terms.rate, identity.sub_key, now)
        else:
            key = limit_key(exchange, terms.rate_key)
            if key is None:
                if self._passes(exchange, _NO_KEY):
                    return self._inner.render(request)
                return refuse(face, exchange, _NO_KEY)
            rule = rule_of(terms, identity)
            cost = terms.costs.get(face.method, terms.cost)
            count = self._buckets.take(rule, key, now, cost)
        if type(count) is not Count:
            return self.wait(request, face, count)
        return self.judge(request, face, exchange, count, now)

    def judge(self, request: Any, face: Any, exchange: Exchange, count: Any, now: int) -> Any:
        """Act upon a count that is known; C{now} is unix microseconds."""
        allowed, window, remaining, reset_at, retry_after, full, note = count
        if note:
            exchange.reason = "store_" + note
            if note == "open":  # how much remains nobody knows, so nothing is told
                return self._inner.render(request)
            if note == "closed":
                exchange.reason = ""
                if self._passes(exchange, _STORE):
                    return self._inner.render(request)
                return refuse(face, exchange, _STORE)
        if allowed:
            face.add_lines(window.filled(remaining, reset_at, reset_at - now // 1_000_000))
            return self._inner.render(request)
        face.add_lines(refused_lines(count))
        if full:
            refused = Refused(Reason.LIMIT_KEYS, retry_after)
        else:
            reason = Reason.LIMIT_LOCAL if note else Reason.LIMIT
            refused = Refused(reason, retry_after, limit=window.name)
        if self._passes(exchange, refused):
            return self._inner.render(request)
        return refuse(face, exchange, refused)

    def _passes(self, exchange: Exchange, refused: Refused) -> bool:
        """Whether the limit is in shadow mode."""
        shadow = (exchange.terms or self._terms).shadow
        return shadow is not None and shadow.passes("ratelimit", exchange, refused)

    def wait(self, request: Any, face: Any, counting: Pending) -> int:
        """Act upon a count as soon as it is known."""
        # Armed before the wait: the client may leave while the store is asked.
        face.on_cut = counting.forget
        counting.then(self.counted, request)
        return NOT_DONE_YET

    def counted(self, counting: Pending) -> None:
        """The count is known, or nobody can say."""
        afterwards(counting.request, self._act, counting)

    def _act(self, request: Any, face: Any, exchange: Exchange, counting: Pending) -> Any:
        count = counting.count
        if count is None:
            if self._passes(exchange, _STORE):
                return self._inner.render(request)
            return refuse(face, exchange, _STORE)
        # A store's clock may be behind ours; no client is told a negative time.
        now = min(counting.now, count.reset_at * 1_000_000)
        return self.judge(request, face, exchange, count, now)


def limit_key(exchange: Exchange, kind: str) -> str | None:
    """The counter's key, or C{None} when the token lacks the claim it is made of."""
    if kind == "ip":
        return exchange.address.limit_key if exchange.address is not None else "ip:unknown"
    return exchange.identity.limit_key(kind) if exchange.identity is not None else None


def rule_of(terms: Terms, identity: Identity | None) -> Any:
    """The rule that an API key brings, of the plan that the token names, or the common one."""
    if identity is not None and identity.rate is not None and not terms.own_counter:
        return identity.rate
    if terms.plans and identity is not None:
        plan = claim_of(identity.claims, terms.plan_claim)
        if isinstance(plan, str):
            return terms.plans.get(plan, terms.rate)
    return terms.rate
