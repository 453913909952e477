# -*- test-case-name: tests.test_express -*-
"""
The express lane: lets an ordinary request take all its stages in one function; any other
goes on from the stage at which it stops being ordinary.

It decides nothing: it asks the same cores in the same order as the nested stages, and where
one of them has anything but "yes, at once" to say, that stage's own shell takes over. So
every refusal, every wait and every body is the shells' business, written once. Why it is
there: a dozen nested C{render} calls that each look up what the one before has just found
cost a third of the whole request (docs/performance.md). tests/test_express.py holds it
against the nested stages.

What is the same for all requests with one head, whoever sends them, is worked out once and
kept with the head: its L{Plan}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.web.server import NOT_DONE_YET

from gateway.admission.health import OWN
from gateway.admission.ratelimit import limit_key, rule_of
from gateway.admission.windows import Count
from gateway.audit.audited import agent_of
from gateway.cores import COMPILED, Lane
from gateway.equipment import equip
from gateway.exchange import READY, request_id_line
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.upstream.headers import closing, opening
from gateway.verdicts import Refused

if TYPE_CHECKING:
    from gateway.admission.identity import Identity
    from gateway.admission.pending import Pending
    from gateway.chain import Parts
    from gateway.exchange import Exchange
    from gateway.http.heads import RequestHead
    from gateway.terms import Terms
    from gateway.upstream.headers import HeadWriter

#: Peers whose forwarding lines one plan keeps.
_PEERS = 64


class Plan:
    """
    What all requests with one head have in common.

    @ivar agent: the client's program, for the audit.
    @ivar owner: who made it; a reloaded lane makes its own.
    @ivar terms: the route's; C{None} where the request is not ordinary whoever sends it.
    @ivar lines: for the answer.
    @ivar start: of the upstream's head; C{end}: its last lines.
    @ivar forwarded: the lines between, by peer.
    """

    __slots__ = (
        "agent", "end", "forwarded", "lines", "owner", "path", "query", "rest", "start", "terms",
    )  # fmt: skip

    agent: bytes | None
    owner: _Planner
    path: bytes
    query: bytes
    rest: bytes
    terms: Terms | None
    lines: bytes
    start: bytes
    end: bytes
    forwarded: dict[str | None, bytes]

    def forwarding(self, exchange: Any, head: RequestHead, heads: HeadWriter) -> bytes:
        """The forwarding lines of one more peer, kept for its next request."""
        if len(self.forwarded) >= _PEERS:
            self.forwarded.clear()
        lines = self.forwarded[exchange.peer] = heads.forwarded(exchange, head)
        return lines


class ExpressLane(Lane, Shell):
    """
    The wrapper around all stages.

    @param stages: the nested ones, each by its name in L{gateway.chain}.
    @ivar nested: the outermost of them.
    @ivar parts: what they are made of.
    """

    def __init__(self, parts: Parts, stages: Mapping[str, Any]) -> None:
        self.nested = stages["Audited"]
        self.parts = parts
        # What renders does not know the lane, so that both go when another configuration comes.
        special = parts.proofs.fields if parts.proofs is not None else frozenset()
        planner = _Planner(stages["LookedUp"].find, special)
        self.render = _lane(self, planner, parts, stages)  # type: ignore[assignment,method-assign]


class _Planner:
    def __init__(self, find: Callable[[bytes], Any], special: frozenset[bytes]) -> None:
        self._find = find
        self._special = special

    def plan(self, head: RequestHead) -> Plan:
        """Work out what requests with that head have in common, and keep it with the head."""
        plan = head.plan = Plan()
        plan.owner = self
        plan.agent = agent_of(head.noted)
        plan.path, plan.query, plan.terms, plan.rest = self._find(head.target)
        terms = plan.terms
        if (
            terms is None
            or terms.target is None
            or terms.shadow
            or plan.path in OWN
            or (terms.takes is not None and not terms.takes.plain)
            or any(name in self._special for name, _ in head.noted)
        ):
            plan.terms = None
            return plan
        cors = terms.cors
        plan.lines = b""
        if cors is not None and cors.enabled:
            if head.method == b"OPTIONS":
                plan.terms = None
                return plan
            origin = None
            for name, value in head.noted:
                if name == b"origin":
                    origin = value
            plan.lines = cors.lines(origin)
        plan.start = opening(head, terms.target, plan.rest, plan.query)
        plan.end = closing(head.method, None)
        plan.forwarded = {}
        return plan


def _lane(
    lane: Lane, planner: _Planner, parts: Parts, stages: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """
    The one function; what it needs at every request is at hand in its closure.

    @param lane: gets the same for its compiled half, if that is there.
    """
    clock, now, ready = parts.clock, parts.now, READY
    direct = parts.proxies.direct.get
    known = parts.tokens.known if parts.proofs is None else unbound(parts.tokens.known)
    take = parts.buckets.take
    audited, peer_named = stages["Audited"], stages["PeerNamed"]
    stamp, ended = audited.stamp, audited.ended
    limited, permitted, sized, broken = (
        stages["RateLimited"], stages["Permitted"], stages["SizeLimited"], stages["CircuitBroken"],
    )  # fmt: skip
    send, heads = stages["Forwarded"].send, stages["Forwarded"].heads
    in_flight = stages["InFlightLimited"] if parts.most_flying else None

    def onward(
        request: Any, exchange: Exchange, plan: Plan, terms: Terms, identity: Identity | None
    ) -> Any:
        # Stages 7 and 8: the plan has a route.
        policy = terms.policy
        if (
            policy is not None
            and not policy.open
            and policy.judge(
                request.head.method, identity, exchange.address, exchange.began, plan.path
            )
            is not None
        ):
            return permitted.render(request)
        # Stage 9.
        if request.body is not None:
            return sized.render(request)
        # Stage 10.
        target = terms.target
        assert target is not None  # the plan has seen to it
        circuit = target.circuit
        permit: int | Refused | None = circuit.clear
        if permit is None:
            permit = circuit.admit(exchange.started)
            if type(permit) is Refused:
                return broken.render(request)
        exchange.permit = permit
        # Stage 11. On a public route there is nobody to tell of.
        fields = identity.headers if identity is not None else b""
        forwarded = plan.forwarded.get(exchange.peer)
        if forwarded is None:
            forwarded = plan.forwarding(exchange, request.head, heads)
        if terms.assertion is not None and identity is not None:
            path = target.base + plan.rest + plan.query
            fields += terms.assertion.line(
                identity, exchange.began, request.head.method, path, exchange.request_id
            )
        return send(
            request,
            exchange,
            target,
            b"".join(
                (
                    plan.start,
                    request.more,
                    fields,
                    exchange.request_id_line,
                    forwarded,
                    plan.end,
                )
            ),
        )

    def counted(counting: Pending) -> None:
        """A store that had to be asked has answered: go on behind stage 6."""
        count, request = counting.count, counting.request
        if count is None or count.note or not count.allowed:
            limited.counted(counting)
            return
        try:
            request.on_cut = None
            exchange = request.exchange
            _, window, remaining, reset_at, *_ = count
            seconds = max(0, reset_at - counting.now // 1_000_000)
            request.extra += window.filled(remaining, reset_at, seconds)
            result = onward(request, exchange, counting.context, exchange.terms, exchange.identity)
            if result is not NOT_DONE_YET:
                request.write_whole(result)
        except Exception:
            # There is no caller to see to it, and others wait for their counts.
            request.channel.site.broken(request)

    def render(request: Any) -> Any:
        if type(request) is not Request:
            return audited.render(request)
        exchange, head = request.exchange, request.head
        # Stage 0: its identifier, its time.
        exchange.request_id_line = line = ready.pop() if ready else request_id_line()
        exchange.started = clock()
        exchange.began = moment = now()
        request.stamp = stamp
        request.on_end = ended
        # Stage 1: whose address, which route.
        plan: Plan = head.plan
        if plan is None or plan.owner is not planner:
            plan = planner.plan(head)
        peer = request.channel.peer
        address = direct(peer)
        terms = plan.terms
        if address is None or terms is None:
            request.extra = line
            return peer_named.render(request)
        exchange.peer, exchange.address = peer, address
        exchange.path, exchange.query, exchange.rest = plan.path, plan.query, plan.rest
        exchange.terms = terms
        # Stages 2 to 4: neither OPTIONS nor /health comes so far.
        if not terms.addresses.open and not terms.addresses.admits(address):
            request.extra = line
            return stages["IPFiltered"].render(request)
        request.extra = line + plan.lines
        if in_flight is not None and not in_flight.enter(request, exchange):
            return in_flight.refuse(request, exchange)
        # Stage 5.
        authorization = request.authorization
        identity = None
        if len(authorization) == 1:
            identity = known(authorization[0], terms.identity, moment)
        if identity is None and not terms.public:
            return stages["Authenticated"].render(request)
        exchange.identity = identity
        # Stage 6. From here on a count has been taken: there is no way back.
        microsecond = int(moment * 1_000_000)
        if terms.by_sub and identity is not None:
            count = take(terms.rate, identity.sub_key, microsecond)
        else:
            key = limit_key(exchange, terms.rate_key)
            if key is None:
                return limited.render(request)
            cost = terms.costs.get(head.method, terms.cost)
            count = take(rule_of(terms, identity), key, microsecond, cost)
        if type(count) is not Count:
            request.on_cut = count.forget
            count.then(counted, request, plan)
            return NOT_DONE_YET
        allowed, window, remaining, reset_at, _wait, _full, note = count
        if note or not allowed:
            return limited.judge(request, request, exchange, count, microsecond)
        request.extra += window.filled(remaining, reset_at, reset_at - microsecond // 1_000_000)
        return onward(request, exchange, plan, terms, identity)

    if COMPILED:
        equip(
            lane, planner, parts, stages,
            known=known, ready=ready, request_id_line=request_id_line, counted=counted,
        )  # fmt: skip
    return render


def unbound(known: Callable[..., Identity | None]) -> Callable[..., Identity | None]:
    """
    The same for tokens that are bound to nobody: what else must be shown with any other is the
    shells' business.
    """

    def find(value: bytes, rules: Any, now: float) -> Identity | None:
        identity = known(value, rules, now)
        return None if identity is None or "cnf" in identity.claims else identity

    return find
