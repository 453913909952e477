# -*- test-case-name: tests.test_express -*-
"""
What the compiled lane (C{gateway/compiled}) is equipped with: lets nothing in that decides
otherwise than the interpreted lane, whose own parts these are; takes over where a request stops
being ordinary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gateway.admission.ratelimit import limit_key, rule_of
from gateway.admission.tokens import NO_TOKEN
from gateway.admission.windows import PARTS, Count, SlidingWindow, refused_lines
from gateway.answers import pieces
from gateway.audit.audited import TOOK
from gateway.cores import Rate, Refusal, Way
from gateway.http.request import STATUS_LINES, Request
from gateway.stores.memory import MemoryBuckets
from gateway.upstream.forward import IDEMPOTENT, Forwarding
from gateway.verdicts import Reason, Refused

if TYPE_CHECKING:
    from gateway.chain import Parts
    from gateway.cores import Lane
    from gateway.http.heads import RequestHead

#: Larger numbers are left to the interpreter, which has no bound.
_MOST = 1 << 60


def laid_out(why: tuple[Any, int, int] | None) -> Any:
    """
    A refusal as the pieces of an answer, a C{Refusal}: good within this second.

    @param why: (window, reset, seconds to wait) of a limit; C{None}: no token has come.
    """
    if why is None:
        refused, told = NO_TOKEN, b""
    else:
        window, reset_at, retry_after = why
        refused = Refused(Reason.LIMIT, retry_after, limit=window.name)
        told = refused_lines(Count(False, window, 0, reset_at, retry_after))
    lines, before, behind = pieces(refused, refused.lines)
    status, detail = refused.reason.status, refused.limit or refused.detail
    opening = STATUS_LINES[status] + lines
    return Refusal(status, opening, told, before, behind, refused.reason.code, detail)


class _Ways:
    """
    What heads have in common, laid open. It does not know the lane, so that both go when another
    configuration comes.
    """

    def __init__(self, planner: Any) -> None:
        self._planner = planner
        self._rates: dict[Any, Any] = {}

    def of(self, head: RequestHead) -> Any:
        """The C{Way} of a head."""
        plan = head.plan
        if plan is None or plan.owner is not self._planner:
            plan = self._planner.plan(head)
        rate = None
        if plan.terms is not None and plan.terms.by_sub:
            rule = plan.terms.rate
            if rule not in self._rates:
                self._rates[rule] = self._counted(rule)
            rate = self._rates[rule]
        return Way(head, plan, rate, head.method in IDEMPOTENT)

    def _counted(self, rule: Any) -> Any:
        if type(rule) is not SlidingWindow or max(rule.limit, rule.window) > _MOST:
            return None
        return Rate(rule, PARTS)


def whole_request(parts: Parts, stages: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Makes a request that has been ordinary so far a whole one, and its C{Forwarding}."""
    stamp, ended = stages["Audited"].stamp, stages["Audited"].ended
    in_flight = stages["InFlightLimited"] if parts.most_flying else None

    def make(flight: Any) -> tuple[Request, Forwarding | None]:
        channel, way = flight.channel, flight.way
        authorization = () if flight.authorization is None else (flight.authorization,)
        raw = flight.raw[:-4]
        request = Request(channel, flight.head, authorization, flight.more, raw, None)
        request.extra = flight.extra
        request.stamp, request.on_end = stamp, ended
        plan, exchange = way.plan, request.exchange
        exchange.request_id_line = flight.line
        exchange.started, exchange.began = flight.started_at, flight.began
        exchange.peer, exchange.address = channel.peer, flight.address
        exchange.path, exchange.query, exchange.rest = plan.path, plan.query, plan.rest
        exchange.terms, exchange.identity = way.terms, flight.identity
        exchange.permit = flight.permit
        if in_flight is not None:
            # It has its place already, and keeps it.
            parts.flying.count -= 1
            in_flight.enter(request, exchange)
        if flight.pending is not None:
            request.on_cut = flight.pending.forget
        if flight.asked is None:
            return request, None
        target = way.target
        exchange.upstream = target.name
        forwarding = Forwarding(parts.clock, request, exchange, target, flight.asked)
        forwarding.connection = flight.connection
        request.on_cut = forwarding.cut
        return request, forwarding

    return make


def equip(
    lane: Lane, planner: Any, parts: Parts, stages: Mapping[str, Any], *,
    known: Any, ready: list[bytes], request_id_line: Any, counted: Any,
) -> None:  # fmt: skip
    """
    Give the compiled lane all it asks for.

    @param planner: makes what heads have in common.
    @param known: who knows an Authorization field's value.
    @param ready: request identifiers; C{request_id_line} makes more.
    @param counted: goes on with a request whose counter had to be asked for.
    """
    lane.equip(
        SimpleNamespace(
            owner=planner, clock=parts.clock, now=parts.now, ready=ready,
            request_id_line=request_id_line, flying=parts.flying, most_flying=parts.most_flying,
            direct=parts.proxies.direct, known=known,
            # Where another proof may come with a token, or instead, the interpreted lane looks.
            entries=parts.tokens.values if parts.proofs is None else None,
            counters=parts.buckets.counters if type(parts.buckets) is MemoryBuckets else None,
            take=parts.buckets.take, append=parts.audit.append, lines=TOOK,
            Count=Count, Refused=Refused, key_of=limit_key, rule_of=rule_of,
            way_of=_Ways(planner).of, make_whole=whole_request(parts, stages),
            lay_out=laid_out, counted=counted, judge=stages["RateLimited"].judge,
            forbidden=stages["Permitted"].render, broken=stages["CircuitBroken"].render,
            send=stages["Forwarded"].send, heads=stages["Forwarded"].heads,
        )
    )  # fmt: skip
