"""A revocation is felt at once: by cached tokens, new ones, and whoever is in the middle of something."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from gateway.revocation.entries import Entry
from gateway.settings import parse
from tests.test_express import INI, SECRET, Gateway

NOW = 1_700_000_000.0


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Gateway]:
    """One in memory, whose limit nobody reaches."""
    ini = INI.replace("limit = 6", "limit = 1000").replace("refused = 4/1h\n", "")
    ini = ini.replace("[gateway]", f"[gateway]\nrevocations = {tmp_path}/revoked")
    made = Gateway(True, monkeypatch, [NOW], parse(ini, {}))
    yield made
    made.close()


def token(sub: str = "ann", kid: str = "", **claims: Any) -> bytes:
    """A good one."""
    claims = {"sub": sub, "exp": 4e9, **claims}
    return jwt.encode(claims, SECRET, "HS256", headers={"kid": kid} if kid else None).encode()


def status(gateway: Gateway, tok: bytes, peer: str = "192.0.2.1") -> int:
    """Of one request."""
    answer, _ = gateway.ask(peer, b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + tok + b"\r\n\r\n")
    return int(answer[9:12]) if answer else 0


def revoke(gateway: Gateway, kind: str, value: str, **more: Any) -> None:
    """As when the file says so."""
    gateway.service.revocations.merge([Entry(kind, value, NOW, **more)], NOW)


@pytest.mark.parametrize(("kind", "value"), [("jti", "x1"), ("user", "ann"), ("kid", "k1")])
@pytest.mark.parametrize("seen", [False, True])
def test_refused_whether_seen_before_or_not(gateway: Gateway, kind: str, value: str, seen: bool) -> None:
    """401 from the next request on, also for a token that has been verified before; others go on."""
    good = token("bob", "k2", jti="x2", iat=NOW - 5)
    bad = token("ann", "k1", jti="x1", iat=NOW - 5)
    for _ in range(3 if seen else 0):
        assert (status(gateway, good), status(gateway, bad)) == (200, 200)
    revoke(gateway, kind, value, reason="lost", **({"before": NOW} if kind == "user" else {}))
    for _ in range(3):
        assert (status(gateway, good), status(gateway, bad)) == (200, 401)
    assert gateway.rows[-1][11:15:3] == ("revoked", f"{kind}: lost")
    answer, _ = gateway.ask("192.0.2.1", b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + bad + b"\r\n\r\n")
    assert b'{"error": "Token validation failed"' in answer
    assert b"WWW-Authenticate: Bearer" in answer
    assert not re.search(rb"lost|revoked", answer)
    gateway.service.revocations.merge([Entry(kind, value, NOW + 1, undone=True)], NOW)
    assert status(gateway, bad) == 200


def test_a_user_comes_back_with_a_new_token(gateway: Gateway) -> None:
    """Tokens issued since are good."""
    old, new = token(iat=NOW - 1), token(iat=NOW + 1)
    assert (status(gateway, old), status(gateway, new)) == (200, 200)
    revoke(gateway, "user", "ann", before=NOW)
    assert (status(gateway, old), status(gateway, new), status(gateway, token())) == (401, 200, 401)


def test_only_whose_token_it_is_is_verified_anew(gateway: Gateway) -> None:
    """The cache forgets what is revoked and nothing else; of a key, which it does not know, everything."""
    tokens = gateway.service.generation.tokens
    for number in range(10):
        assert status(gateway, token(f"user{number}")) == 200
    revoke(gateway, "user", "user3")
    assert len(tokens) == 9
    revoke(gateway, "jti", "nobody's")
    assert len(tokens) == 9
    revoke(gateway, "kid", "k")
    assert len(tokens) == 0
    assert tokens.used == 0


@pytest.mark.parametrize(("kind", "value"), [("jti", "x1"), ("user", "ann"), ("kid", "k1")])
def test_what_is_under_way_ends(gateway: Gateway, kind: str, value: str) -> None:
    """Requests of a revoked token that wait get 401 at once; another user's go on."""
    gateway.upstream.take = lambda: b""  # type: ignore[method-assign]
    gone, stays = "192.0.2.1", "192.0.2.2"
    status(gateway, token("ann", "k1", jti="x1"), gone)
    status(gateway, token("bob", "k2", jti="x2"), stays)
    rows = len(gateway.rows)
    revoke(gateway, kind, value)
    assert gateway.channels[gone].transport.value().startswith(b"HTTP/1.1 401 ")
    assert gateway.channels[stays].transport.value() == b""
    assert [row[11] for row in gateway.rows[rows:]] == ["revoked"]
    gateway.channels[gone].transport.clear()
    assert status(gateway, token("cid"), gone) == 0  # the connection takes another request


def test_nothing_revoked_costs_nothing(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is known asks nobody about revocations, however many there are."""
    tok = token()
    assert status(gateway, tok) == 200
    revoke(gateway, "jti", "other")

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(gateway.service.revocations, "revoked", never)
    assert status(gateway, tok) == 200


def test_a_reload_keeps_them(gateway: Gateway) -> None:
    """Another configuration, with another cache of tokens, refuses the same."""
    from gateway.generation import generation  # noqa: PLC0415 - of one test

    other = INI.replace(SECRET, "t" * 40)
    made = generation(parse(other, {}), gateway.service.lasting, gateway.service.generation)
    revoke(gateway, "user", "ann")
    raw = jwt.encode({"sub": "ann", "exp": 4e9}, "t" * 40, "HS256").encode()
    lane: Any = made.resource
    found = made.tokens.identify(raw, lane.parts.terms.identity, time.time())
    assert found.reason.code == "revoked"  # type: ignore[union-attr]
