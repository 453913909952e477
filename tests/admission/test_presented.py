"""Tests for the shells around other credentials: in anybody's site, and while a store is asked whether a proof is new."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.admission.authentication import Authenticated
from gateway.admission.dpop import ProofRules
from gateway.admission.identity import IdentityRules
from gateway.admission.presented import Presented, as_dpop
from gateway.admission.proofs import Proofs
from gateway.admission.proven import Proven
from gateway.admission.replays import Replays, replay_rule
from gateway.admission.takes import Takes
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Verifier
from gateway.admission.windows import Count
from gateway.interfaces import IBuckets
from gateway.keys import hmac_key
from gateway.terms import Terms
from gateway.testing import FailingBuckets, SlowBuckets
from tests.admission.proofs import Sender
from tests.system.tools import SECRET
from tests.test_shells import INNER, Transport, answer, ask, both, engine, raw

sender = Sender()
TOKEN = sender.token(SECRET)
RULE = replay_rule(65.0)


def tree(shared: IBuckets | None = None) -> Presented:
    """All of stage 5 around a stock resource."""
    proofs = Proofs(dpop=ProofRules(["ES256"]), replays=Replays(RULE, 1000, shared))
    terms = Terms(identity=IdentityRules(proofs=True), takes=Takes(dpop="accept", algs=b'algs="ES256"'))
    tokens = TokenCache(Verifier(hmac_key(SECRET.encode(), ["HS256"])), 10, 1 << 20)
    by_token = Authenticated(Proven(INNER, proofs, time.time), tokens, terms, time.time)
    return Presented(by_token, INNER, proofs, terms, time.time, None)


def asking(jti: str) -> bytes:
    """A request with a proof."""
    proof = sender.prove("GET", "http://a/x", TOKEN, jti)
    return raw("/x", f"Authorization: DPoP {TOKEN}", f"DPoP: {proof}")


@both
def test_in_anybody_s_site(make: Any) -> None:
    """A proof passes once over any resource in any site; a bound token alone does not."""
    root, request = tree(), asking("one")
    assert ask(make, root, request)[2] == b"inner"
    assert ask(make, root, asking("two"))[0] == 200
    for wrong in (request, raw("/x", f"Authorization: Bearer {TOKEN}"), raw("/x")):
        status, fields, body = ask(make, root, wrong)
        assert (status, "www-authenticate" in fields) == (401, True)
        assert json.loads(body)["error"] in ("Token validation failed", "Missing or invalid Authorization header")


def opened(make: Any, root: Any, request: bytes) -> Transport:
    """A connection on which the request waits."""
    protocol = make(root).buildProtocol(None)
    transport = Transport()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    protocol.dataReceived(request)
    return transport


OUTCOMES = {
    "new": (Count(True, RULE, 0, 1), 200), "seen": (Count(False, RULE, 0, 1, 1), 401),
    "full": (Count(False, RULE, 0, 1, 1, full=True), 503), "closed": (Count(False, RULE, 0, 1, 1, note="closed"), 503),
    "seen here": (Count(False, RULE, 0, 1, 1, note="local"), 401), "nobody can say": (None, 503),
}  # fmt: skip


@both
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_store_is_asked(make: Any, outcome: str) -> None:
    """The request waits until the store has said whether the proof is new, and is decided by that."""
    slow = SlowBuckets()
    count, status = OUTCOMES[outcome]
    transport = opened(make, tree(slow), asking(outcome))
    assert not transport.value()
    slow.waiting.pop().settle(count)
    while transport.producer is not None and not transport.streaming:
        transport.producer.resumeProducing()
    assert answer(transport)[0] == status


@both
def test_a_store_that_fails_at_once(make: Any) -> None:
    """When nobody can say whether a proof is new, it does not pass."""
    assert ask(make, tree(FailingBuckets()), asking("x"))[0] == 503


def test_a_client_that_leaves() -> None:
    """Whoever leaves while the store is asked is forgotten."""
    slow = SlowBuckets()
    transport = opened(engine, tree(slow), asking("gone"))
    transport.protocol.connectionLost(None)
    slow.waiting.pop().settle(OUTCOMES["new"][0])
    assert not transport.value()


def test_challenges() -> None:
    """A refusal of a token that came as DPoP says so; other header lines stay."""
    lines = b'WWW-Authenticate: Bearer realm="gateway", error="invalid_token"\r\nX: Bearer \r\n'
    assert as_dpop(lines, b'algs="ES256"') == (
        b'WWW-Authenticate: DPoP realm="gateway", error="invalid_token", algs="ES256"\r\nX: Bearer \r\n'
    )
    assert as_dpop(b"", b"") == b""


