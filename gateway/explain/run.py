# -*- test-case-name: tests.explain.test_agreement -*-
"""
Sends one made-up request through the very stages that serve real ones; lets nothing out:
what the last stage would send is kept, and what an answer would say.

The stages are those of L{gateway.chain.STAGES}, in that order, made by the same functions of
the same parts, read only; between any two stands a recorder. The request is read by the
engine's own channel, from bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from gateway.answers import FAULTS, fault
from gateway.chain import STAGES, Parts
from gateway.exchange import Exchange
from gateway.explain.reading import reading
from gateway.http.faults import HeadFault
from gateway.http.heads import RequestHeads
from gateway.http.site import Limits, Site
from gateway.http.sweep import Sweep
from gateway.settings import Settings
from gateway.shadow import Shadow
from gateway.shell import Shell
from gateway.upstream.forward import Forwarded


@dataclass(frozen=True, slots=True)
class Asked:
    """
    The request that is asked about.

    @ivar raw: its head as it would come, blank line included.
    @ivar peer: the socket peer's address; C{None}: a UNIX socket's.
    @ivar at: unix seconds; C{None}: now.
    """

    raw: bytes = field(repr=False)
    peer: str | None = "127.0.0.1"
    at: float | None = None


@dataclass(slots=True)
class Seen:
    """
    What happened to it.

    @ivar way: the names of the stages it reached, in order; C{Forwarded} is the last.
    @ivar details: the audit's C{detail} when it reached each of them.
    @ivar absent: the names of the stages that this configuration has no use for.
    @ivar face: the request; C{None} if the bytes were none.
    @ivar count: the limiter's, once it was asked.
    @ivar answer: what the client would get; empty where the upstream would be asked.
    @ivar head: what the upstream would get.
    @ivar unread: why the bytes are no request.
    """

    settings: Settings
    parts: Parts
    asked: Asked
    way: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    face: Any = None
    terms: Any = None
    count: Any = None
    answer: bytes = b""
    head: bytes = b""
    unread: str = ""

    @property
    def exchange(self) -> Exchange:
        """The request's facts."""
        return self.face.exchange if self.face is not None else Exchange()

    @property
    def status(self) -> int:
        """Of the gateway's own answer; 0 where the upstream would give it."""
        return int(self.answer[9:12]) if self.answer else 0

    @property
    def reason(self) -> str:
        """The audit's code; empty where nothing was refused."""
        if self.face is None and self.answer:
            return FAULTS[self.status].code
        return self.exchange.reason

    def noted(self, stage: str) -> str:
        """What the audit's C{detail} has got from a stage that was reached."""
        at = self.way.index(stage)
        later = [*self.details, self.exchange.detail][at + 1]
        return later[len(self.details[at]) :].removeprefix(", ")

    def shadowed(self, stage: str) -> bool:
        """Whether the stage let pass what it would have refused."""
        return self.noted(stage).startswith("shadow:")

    def code(self, stage: str) -> str:
        """Why the stage refused, or would have."""
        noted = self.noted(stage)
        if noted.startswith("shadow:"):
            return noted.removeprefix("shadow:").partition(" ")[0]
        return self.reason

    def said(self, stage: str) -> str:
        """More about it."""
        noted = self.noted(stage)
        return noted.partition(" ")[2] if noted.startswith("shadow:") else noted

    @property
    def allowed(self) -> bool:
        """Whether nobody refused."""
        return self.status < 400

    @property
    def route(self) -> str:
        """The route's prefix; empty where there is none."""
        terms = self.exchange.terms
        return terms.route if terms is not None else ""


class _Recorded(Shell):
    """Notes that a stage is reached."""

    def __init__(self, name: str, inner: Any, seen: Seen) -> None:
        self._name = name
        self._inner = inner
        self._seen = seen

    def render(self, request: Any) -> Any:
        seen, exchange = self._seen, request.exchange
        seen.face = request
        seen.way.append(self._name)
        seen.details.append(exchange.detail)
        terms = exchange.terms
        if terms is not None and terms.shadow is not None and terms is not seen.terms:
            # What would be refused is counted; this is none of it.
            shadow = Shadow(terms.shadow.gates, terms.route, {})
            seen.terms = exchange.terms = replace(terms, shadow=shadow)
        return self._inner.render(request)


class _Kept(Forwarded):
    """The last stage, but for the sending."""

    done: Callable[[bytes], object]

    def send(self, face: Any, exchange: Exchange, target: Any, head: bytes) -> int:
        """Keep the head."""
        exchange.upstream = target.name
        if exchange.permit is not None:
            target.circuit.undecided(exchange.permit)  # a trial's place is free again
            exchange.permit = None
        self.done(head)
        return NOT_DONE_YET


class _Wire:
    """A connection in memory, from a peer of any address."""

    disconnecting = False

    def __init__(self, peer: str | None, written: Callable[[bytes], object]) -> None:
        self._peer = peer
        self.write = written

    def getPeer(self) -> Any:
        if self._peer is None:
            return UNIXAddress(None)
        kind = IPv6Address if ":" in self._peer else IPv4Address
        return kind("TCP", self._peer, 1)

    getHost = getPeer

    def loseConnection(self) -> None:
        """Nobody is there."""

    abortConnection = pauseProducing = resumeProducing = unregisterProducer = loseConnection

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nobody is slow."""


def run(
    settings: Settings, parts: Parts, heads: RequestHeads, limits: Limits, asked: Asked
) -> Deferred[Seen]:
    """
    What would happen; fires at once unless somebody outside must be asked.

    @param parts: of a gateway that serves, or is ready to; they stay as they are.
    """
    read = reading(parts, asked.at)
    seen = Seen(settings, read, asked)
    done: Deferred[Seen] = Deferred()

    def ended() -> None:
        if not done.called:
            done.callback(seen)

    def reached(head: bytes) -> None:
        seen.head = head
        ended()

    def written(data: bytes) -> None:
        seen.answer += data
        ended()

    site = Site(_nested(read, seen, reached), heads, Sweep(Clock()), limits, fault, Exchange)
    channel = site.buildProtocol(None)
    assert channel is not None
    channel.makeConnection(_Wire(asked.peer, written))
    channel.dataReceived(asked.raw)
    if seen.face is None and seen.answer:
        seen.unread = _unread(heads, asked.raw)
    return done


def _nested(parts: Parts, seen: Seen, reached: Callable[[bytes], object]) -> IResource:
    kept = _Kept(parts.clock)
    kept.done = reached
    inner: IResource = _Recorded("Forwarded", kept, seen)
    for stage in reversed(STAGES):
        made: Any = stage.wrap(parts, inner)
        if made is inner:
            seen.absent.add(stage.name)
            continue
        if stage.name == "RateLimited":
            _note_counts(made, seen)
        inner = _Recorded(stage.name, made, seen)
    return inner


def _note_counts(limited: Any, seen: Seen) -> None:
    judge = limited.judge

    def noted(request: Any, face: Any, exchange: Exchange, count: Any, now: int) -> Any:
        seen.count = count
        return judge(request, face, exchange, count, now)

    limited.judge = noted


def _unread(heads: RequestHeads, raw: bytes) -> str:
    try:
        heads.parse(raw.partition(b"\r\n\r\n")[0])
    except HeadFault as found:
        return str(found)
    return "it is longer than [gateway] max_head allows"
