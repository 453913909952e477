"""What gateway explain says and what the gateway does: one and the same."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from gateway.assertion.keys import generate
from gateway.chain import STAGES
from gateway.explain.run import Asked, Seen, run
from gateway.explain.stages import EXPLAINED
from gateway.explain.told import as_dict, as_text, steps
from gateway.issuers.fetch import Fetched
from gateway.settings import parse
from tests.explain.generated import NOW, OPAQUE, configuration, files, requests
from tests.test_express import Gateway

CONFIGURATIONS, REQUESTS = 100, 50
#: A stage that has no words for what happened gives its code.
_CODES = re.compile(r"(?m)because  ([a-z]+_[a-z_]+|certificate|key|proof|keys|introspection|expired|token|signature)( |$)(?!\d)|-1 requests")
_VARIABLE = re.compile(rb"(Date: |X-Request-ID: |X-Response-Time: |X-Gateway-Assertion: )[^\r]*|\"request_id\": \"[^\"]*\"")


def explained(gateway: Gateway, peer: str, raw: bytes) -> Seen:
    """What explain says, of the very gateway that serves."""
    serving = gateway.service.generation
    lane: Any = serving.resource
    found: list[Seen] = []
    asked = Asked(raw, peer)
    run(serving.settings, lane.parts, serving.heads, serving.limits, asked).addCallback(found.append)
    return found[0]


class Server:
    """The one that is asked about opaque tokens, next door."""

    def prepare(self) -> None:
        """It is there."""

    def post(self, _url: str, fields: Mapping[str, str], _headers: object) -> Deferred[Fetched]:
        """What it says."""
        return succeed(Fetched(json.dumps(OPAQUE.get(fields["token"], {"active": False})).encode(), None))

    def close(self) -> None:
        """It stays."""


def plain(data: bytes) -> bytes:
    """Without what differs from one moment, or one request, to the next."""
    return _VARIABLE.sub(b"", data)


def test_explain_says_what_the_gateway_does(patches: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Status, reason, route, answer and forwarded head are as explained, and explaining counts nothing."""
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(generate())
    files(tmp_path)
    found: Counter[str] = Counter()
    users: Counter[str] = Counter()
    for seed in range(CONFIGURATIONS):
        found += agreed(patches, seed, key_file, users)
    assert found.pop("shadow") >= 20
    assert found.total() == CONFIGURATIONS * REQUESTS >= 1000
    assert found.keys() >= {
        "forwarded", "answered", "request", "path", "address", "no_token", "signature", "expired", "token",
        "limit_refused", "limit", "route", "policy", "method", "body_size", "circuit",
        "key", "credentials", "certificate", "certificate_unreadable", "proof",
    }  # fmt: skip
    assert min(users[user] for user in ("ann", "bot", "bea", "cat", "dee", "fay", "hal")) >= 3, users
    assert found["forwarded"] >= 200


def agreed(patches: pytest.MonkeyPatch, seed: int, key_file: Path, users: Counter[str]) -> Counter[str]:
    """One configuration and its requests, each explained and then asked; how often which reason came."""
    now = [NOW]
    gateway = Gateway(True, patches, now, parse(configuration(seed, str(key_file), key_file.parent), {}))
    sources = gateway.service.generation.sources
    if sources.asked is not None:
        sources.asked._fetcher = Server()
    sources.start()
    verdicts: Counter[str] = Counter()
    try:
        for peer, raw, body, later, status in requests(seed, REQUESTS):
            now[0] += later
            gateway.upstream.status = status
            said = explained(gateway, peer, raw)
            gateway.rows.clear()
            answer, asked = gateway.ask(peer, raw + body)
            assert plain(asked.removesuffix(body)) == plain(said.head)
            verdicts["forwarded" if said.head else said.reason or "answered"] += 1
            if said.head:
                assert said.allowed
                if said.exchange.identity is not None:
                    users[said.exchange.identity.user] += 1
                if said.count is not None:
                    assert b"X-RateLimit-Remaining: %d\r\n" % said.count.remaining in answer
            else:
                assert plain(answer) == plain(said.answer)
            if gateway.rows and not said.head:
                row = gateway.rows[-1]
                assert (row[5], row[9], row[11]) == (said.status, said.route, said.reason)
            if gateway.rows:
                assert gateway.rows[-1][-1] == said.exchange.detail
                verdicts["shadow"] += "shadow:" in said.exchange.detail
            text = as_text(said, [])
            assert not _CODES.search(text), text
            assert all(step.why or step.verdict in ("off", "not reached") for step in steps(said)), text
            assert as_dict(said, [])["status"] == (said.status or None)
    finally:
        sources.stop()
        gateway.close()
    return verdicts


def test_every_stage_is_explained() -> None:
    """A stage that nobody explains can't be added."""
    assert set(EXPLAINED) == {stage.name for stage in STAGES} | {"Forwarded"}
