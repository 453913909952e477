"""Tests for gateway.admission.authentication: who must wait, and who is known already, in any site."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from gateway.admission.authentication import Authenticated, Guarded
from gateway.admission.identity import Identity
from gateway.admission.refused import RefusedLimit
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import SIGNATURE, Unsettled, VerifiedToken
from gateway.admission.windows import SlidingWindow
from gateway.exchange import exchange_of
from gateway.shell import Shell
from gateway.stores.memory import MemoryBuckets
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused
from tests.test_shells import INNER, Transport, answer, ask, both, raw

BEARER = "Authorization: Bearer some.token.here"


class Issuer:
    """Somebody who must be asked about every token, and answers when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waiting: list[Deferred[None]] = []
        self.waited: list[float] = []
        self.verdict: VerifiedToken | Refused | None = None
        self.refused: Refused | None = None

    def verify(self, raw: bytes, now: float = 0.0) -> Any:
        return self.verdict or Unsettled(self.ask)

    def ask(self, raw: bytes, waited: float) -> Any:
        self.waited.append(waited)
        if self.refused is not None:
            return self.refused
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def stage(self, limit: RefusedLimit | None = None) -> Authenticated:
        """Its stage."""
        cache = TokenCache(self, 10, 1 << 20)
        if limit is not None:
            return Guarded(INNER, cache, Terms(), lambda: self.now, limit)
        return Authenticated(INNER, cache, Terms(), lambda: self.now)


def begun(make: Any, stage: Any) -> tuple[Any, Transport]:
    """A request under way."""
    protocol = make(stage).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1))
    transport = Transport()
    protocol.makeConnection(transport)
    protocol.dataReceived(raw("/", BEARER))
    return protocol, transport


GOOD = VerifiedToken({"sub": "alice"}, 2000.0, None, 100)


@both
def test_a_key_that_comes(make: Any) -> None:
    """A request whose key must be fetched waits, and goes on when it is there."""
    issuer = Issuer()
    _, transport = begun(make, issuer.stage())
    assert transport.value() == b""
    issuer.verdict = GOOD
    issuer.waiting[0].callback(None)
    assert answer(transport)[2] == b"inner"


@both
def test_a_key_that_does_not_come(make: Any) -> None:
    """Still unknown, it is asked for once more, with the time already waited; then it is refused."""
    issuer = Issuer()
    _, transport = begun(make, issuer.stage())
    issuer.now += 0.75
    issuer.waiting[0].callback(None)
    assert issuer.waited == [0.0, 0.75]
    issuer.refused = SIGNATURE
    issuer.now += 0.25
    issuer.waiting[1].callback(None)
    assert answer(transport)[0] == 401
    assert issuer.waited == [0.0, 0.75, 1.0]


@both
def test_a_client_that_leaves(make: Any) -> None:
    """A client that leaves gives its place up; nothing is written to it, and nobody is let in for it."""
    issuer = Issuer()
    protocol, transport = begun(make, issuer.stage())
    given_up: list[object] = []
    issuer.waiting[0] = issuer.waiting[0].addBoth(given_up.append)
    protocol.connectionLost(Failure(ConnectionLost()))
    assert len(given_up) == 1
    assert transport.value() == b""


@both
def test_what_breaks(make: Any) -> None:
    """What should never happen while somebody is asked is answered with 500, not with silence."""
    issuer = Issuer()
    _, transport = begun(make, issuer.stage())
    issuer.waiting[0].errback(RuntimeError("broken"))
    assert answer(transport)[0] == 500


@both
def test_only_refused_tokens_count(make: Any) -> None:
    """A token that nobody could say anything about (503) does not count against its address; one that is refused does."""
    issuer = Issuer()
    limit = RefusedLimit(SlidingWindow(1, 60_000_000, "refused"), MemoryBuckets(5))
    issuer.refused = Refused(Reason.KEYS, 1)
    stage = issuer.stage(limit)
    for _ in range(3):
        assert ask(make, stage, raw("/", BEARER))[0] == 503
    issuer.refused = SIGNATURE
    assert ask(make, stage, raw("/", BEARER))[0] == 401
    assert ask(make, stage, raw("/", BEARER))[0] == 429


class Known(Shell):
    """A stage that knows who calls by another proof."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def render(self, request: Any) -> Any:
        _, exchange = exchange_of(request)
        exchange.identity = Identity("key", "user", b"", {}, 0.0, float("inf"))
        return self._inner.render(request)


@both
@pytest.mark.parametrize("fields", [(), (BEARER,)])
def test_who_is_known_already(make: Any, fields: tuple[str, ...]) -> None:
    """Who has proved who he is in another way needs no token, and one that came is not looked at."""
    limit = RefusedLimit(SlidingWindow(1, 60_000_000, "refused"), MemoryBuckets(5))
    for stage in (Issuer().stage(), Issuer().stage(limit)):
        assert ask(make, Known(stage), raw("/", *fields))[2] == b"inner"
