"""Signed assertions, with a real daemon."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import jwt

from gateway.assertion.keys import generate
from tests.system.tools import Call, Daemon, Upstream, gateway, request, token

FIELD = "X-Gateway-Assertion"
KEYS = "/.well-known/gateway/jwks.json"


def told(daemon: Daemon, value: str, audience: str) -> dict[str, Any]:
    """What a service learns that fetches the keys and knows nothing else."""
    answer = daemon.get(KEYS, tok=None)
    assert (answer.status, answer["Content-Type"]) == (200, "application/jwk-set+json")
    keys = jwt.PyJWKSet.from_dict(json.loads(answer.body))
    key = keys[jwt.get_unverified_header(value)["kid"]]
    found: dict[str, Any] = jwt.decode(
        value, key, algorithms=["ES256", "EdDSA"], audience=audience, issuer="test-edge", options={"require": ["exp"]}
    )
    return found


def test_the_upstream_knows_who_calls(tmp_path: Path, upstream: Upstream) -> None:
    """A generated key, kept for its owner; the client's own word is dropped in every spelling, trailers included."""
    place = f"upstream = http://127.0.0.1:{upstream.port}"
    routes = f"[route /bound]\n{place}/base\nassertion = request\n[route /plain]\n{place}\n"
    with gateway(tmp_path, upstream, users="assertion = user\nassertion.audience = users", routes=routes) as daemon:
        forged = ["X-Gateway-Assertion: mine", "x_gateway_assertion: mine", "X.GATEWAY.ASSERTION: mine"]
        tok = token(scope="a b")
        for _ in range(3):
            assert daemon.get("/api/v1/users/7", *forged, tok=tok).status == 200
        calls = list(upstream.calls)
        values = {value for call in calls for value in call.values(FIELD)}
        assert len(values) == 1
        assert not any(b"mine" in call.raw for call in calls)
        found = told(daemon, values.pop(), "users")
        assert (found["sub"], found["role"], found["scope"], found["route"]) == ("alice", "admin", "a b", "/api/v1/users")
        assert found["exp"] - found["iat"] in (60, 61)

        assert daemon.get("/bound/x?y=1", *forged, tok=tok).status == 200
        call = upstream.calls[-1]
        found = told(daemon, call.values(FIELD)[0], f"http://127.0.0.1:{upstream.port}")
        assert (found["method"], found["path"]) == ("GET", "/base/x?y=1")
        assert found["path"].encode() == call.target
        assert [found["request_id"]] == call.values("X-Request-ID")

        chunked = request("/plain", "Transfer-Encoding: chunked", *forged, tok=tok, method="POST")
        assert daemon.ask(chunked + b"1\r\nx\r\n0\r\nX-Gateway-Assertion: mine\r\nX_gateway.Assertion: mine\r\n\r\n").status == 200
        assert b"ssertion" not in upstream.calls[-1].raw
    kept = tmp_path / "gateway-assertion.pem"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "PRIVATE" not in daemon.log.read_text()


def test_keys_are_rotated_by_a_reload(tmp_path: Path, upstream: Upstream) -> None:
    """Published first, then changed places, then taken out: what was signed before stays good until then."""
    old, new = generate(), generate()
    file = tmp_path / "keys.pem"

    def write(pem: bytes) -> None:
        file.write_bytes(pem)
        os.chmod(file, 0o600)

    write(old)
    audience = f"http://127.0.0.1:{upstream.port}"
    rest = "[assertion]\nkey_file = keys.pem\ndefault = user"
    with gateway(tmp_path, upstream, rest=rest) as daemon:
        tok = token()

        def asserted() -> str:
            assert daemon.get(tok=tok).status == 200
            return str(upstream.calls[-1].values(FIELD)[0])

        first = asserted()
        write(old + new)
        assert "reloaded: " in daemon.reload()
        assert asserted() == first
        write(new + old)
        assert "reloaded: " in daemon.reload()
        second = asserted()
        assert jwt.get_unverified_header(second)["kid"] != jwt.get_unverified_header(first)["kid"]
        assert told(daemon, first, audience)["sub"] == told(daemon, second, audience)["sub"] == "alice"
        write(b"no key")
        assert "reload refused: " in daemon.reload()
        assert asserted() == second


def test_an_answer_does_not_carry_one_away(tmp_path: Path, upstream: Upstream) -> None:
    """A service that echoes what it got does not hand its assertion to the client."""

    def echo(call: Call) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Echo: 1\r\n%s: %s\r\n\r\n" % (
            FIELD.encode(), call.values(FIELD)[0].encode(),
        )  # fmt: skip

    upstream.answer = echo
    with gateway(tmp_path, upstream, users="assertion = user") as daemon:
        answer = daemon.get()
        assert (answer.status, answer["X-Echo"], answer.values(FIELD)) == (200, "1", [])


def test_keys_are_published_where_nothing_is_signed(tmp_path: Path, upstream: Upstream) -> None:
    """An empty set, without a token; no key is made."""
    with gateway(tmp_path, upstream) as daemon:
        answer = daemon.get(KEYS, tok=None)
        assert (answer.status, json.loads(answer.body)) == (200, {"keys": []})
        assert daemon.get(KEYS, tok=None, method="POST").status == 401
    assert not list(tmp_path.glob("*.pem"))
