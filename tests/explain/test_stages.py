"""What gateway explain says of each stage: why, and which setting."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.explain.command import look
from gateway.explain.nowhere import Nowhere
from gateway.explain.run import Asked, run
from gateway.explain.told import as_dict, as_text, steps
from gateway.service import GatewayService
from gateway.settings import parse

SECRET = "s" * 40
INI = f"""
[gateway]
listen = tcp:1
trusted_proxies = 10.0.0.0/8
[jwt]
secret = {SECRET}
issuer = https://issuer.example
audience = api
[ratelimit]
limit = 20
plan_claim = plan
[plan gold]
limits = 5/1s, 50/60s
[ip]
deny = 198.51.100.0/24
[body]
max_size = 1KiB
[route /api]
upstream = http://user-service.internal:9001/base
require.role = admin
require.claim.team = x
methods = GET, POST
ratelimit.limit = 7
[route /open]
upstream = http://127.0.0.1:9
"""


def line(text: str) -> int:
    """The number of the line that begins so."""
    return next(number for number, each in enumerate(INI.split("\n"), 1) if each.startswith(text))


def token(key: str = SECRET, **claims: Any) -> bytes:
    """A token for user ann that is good unless told otherwise."""
    good = {"sub": "ann", "exp": time.time() + 600, "iss": "https://issuer.example", "aud": "api",
            "role": "admin", "team": "x"}  # fmt: skip
    return jwt.encode({name: value for name, value in {**good, **claims}.items() if value is not None}, key, "HS256").encode()


def explained(
    target: str = "/api/7", tok: bytes | None = None, *lines: bytes, method: str = "GET", peer: str = "192.0.2.1", ini: str = INI
) -> tuple[dict[str, Any], str]:
    """The steps by their stage, and the whole text."""
    head = [f"{method} {target} HTTP/1.1".encode(), b"Host: h", *lines]
    head += [b"Authorization: Bearer " + tok] if tok is not None else []
    seen, notes = look(parse(ini, {}), Asked(b"\r\n".join([*head, b"", b""]), peer))
    return {step.stage: step for step in steps(seen)}, as_text(seen, notes)


@pytest.mark.parametrize(("changed", "why"), [
    ({"iss": "https://other.example"}, "its iss is https://other.example, not https://issuer.example"),
    ({"iss": None}, "its iss is missing, not https://issuer.example"),
    ({"aud": ["web"]}, "its aud is ['web'], not api"),
    ({"nbf": 4e9}, "it is not valid before 2096-10-02T07:06:40Z"),
    ({"exp": None}, "it has no exp, and require_exp is on"),
    ({"sub": None}, "its sub is missing"),
    ({"sub": 7}, "its sub is no text"),
    ({"sub": "a\nb"}, "its sub can't be sent as a header value"),
    ({"role": ["admin"]}, "its role is no text"),
    ({"exp": "soon"}, "its shape is not right (a member named twice, or a time that is no number)"),
    ({"exp": 1}, "it has expired; it is 20"),
    ({"key": "t" * 40}, "its HS256 signature is not the configured key's"),
])  # fmt: skip
def test_why_a_token_is_refused(changed: dict[str, Any], why: str) -> None:
    """Behind the one public sentence stands what exactly is wrong with the token."""
    found, text = explained("/api/7", token(**changed))
    assert found["Authenticated"].why.startswith(why)
    assert found["RateLimited"].verdict == "not reached"
    assert "REFUSED: 401" in text


def test_the_setting_that_decided() -> None:
    """A refusal names the option with its file and line; a default is called one."""
    found, text = explained("/api/7", token(role="user"))
    assert found["Permitted"].why == "require.role is not met"
    assert f"[route /api] require.role = admin (gateway.ini line {line('require.role')})" in text
    assert f"[route /api] ratelimit.limit = 7 (gateway.ini line {line('ratelimit.limit')})" in text
    assert f"ip.deny = 198.51.100.0/24 (gateway.ini line {line('deny')})" in text
    assert "breaker.failures" not in text  # that stage was not reached
    found, text = explained("/api/7", token(team="y"))
    assert found["Permitted"].why == "require.claim.team is not met"
    found, text = explained("/open/7", token())
    assert "breaker.failures = 5 (default)" in text
    assert f"ratelimit.limit = 20 (gateway.ini line {line('limit')})" in text


def test_a_plan_is_named() -> None:
    """Whose token has a plan reads which of its windows it counts in, and where that stands."""
    found, text = explained("/open", token(plan="gold"))
    assert found["RateLimited"].why == "gold 5/1s: 4 more after this one"
    assert f"[plan gold] limits = 5/1s, 50/60s (gateway.ini line {line('limits')})" in text


def test_addresses() -> None:
    """Whose address counts, and in which network it is."""
    found, _ = explained("/open", token(), b"X-Forwarded-For: 198.51.100.7", peer="10.1.1.1")
    assert found["PeerNamed"].why == "a trusted proxy says in X-Forwarded-For that the client is 198.51.100.7"
    assert (found["IPFiltered"].verdict, found["IPFiltered"].why) == ("refused", "198.51.100.0/24 in deny holds it")
    found, _ = explained("/open", token(), b"X-Forwarded-For: 198.51.100.7")
    assert "ignored" in found["PeerNamed"].why
    assert found["IPFiltered"].verdict == "passed"


def test_bytes_that_are_no_request() -> None:
    """What the parser refuses is explained too, and no stage is reached."""
    found, text = explained("/open", None, b"Host: other")
    assert (found["HTTP parsing"].verdict, found["HTTP parsing"].why) == ("refused", "Host repeated")
    assert {step.verdict for name, step in found.items() if name != "HTTP parsing"} == {"not reached", "off"}
    assert "REFUSED: 400 (request)" in text


def test_answers_of_the_gateway_itself() -> None:
    """A preflight and /health are answered, which is no refusal."""
    found, text = explained("/open", None, b"Origin: https://a.example", method="OPTIONS")
    assert found["CORSAnswered"].verdict == "answered"
    found, text = explained("/health")
    assert found["HealthAnswered"].verdict == "answered"
    assert "ANSWERED: 200" in text


def test_body_sizes() -> None:
    """A declared body that is too large is refused by its size."""
    found, _ = explained("/open", token(), b"Content-Length: 2000", method="POST")
    assert (found["SizeLimited"].saw, found["SizeLimited"].why) == ("2000 bytes", "more than 1024 bytes")


def test_secrets_stay_hidden() -> None:
    """Neither the token, the secret, nor a cookie appears anywhere."""
    tok = token()
    _, text = explained("/api/7", tok, b"Cookie: session=mine", b"X-Api-Key: hush")
    assert "GET /base/7 HTTP/1.1" in text
    assert "X-User-ID: ann" in text
    for secret in (tok.decode(), tok.decode().split(".")[2], SECRET, "session=mine", "hush"):
        assert secret not in text


def test_explaining_leaves_a_serving_gateway_alone() -> None:
    """A hundred explanations of one request change no counter, no cache and no circuit."""
    service = GatewayService(parse(INI, {}), Nowhere())
    lane: Any = service.generation.resource
    raw = b"GET /api/7 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token() + b"\r\n\r\n"
    told: list[Any] = []
    for _ in range(100):
        run(service.settings, lane.parts, service.generation.heads, service.generation.limits, Asked(raw)).addCallback(told.append)
    assert {seen.count.remaining for seen in told} == {6}
    assert service.buckets.size() == 0
    assert len(lane.parts.tokens) == 0


def test_shadow_mode_is_told() -> None:
    """What passes only because its gate is in shadow mode is told so, with the reason it would have been refused for."""
    ini = INI.replace("[route /api]", "[route /api]\nrequire.mode = shadow")
    found, text = explained("/api", token(role="user"), ini=ini)
    assert found["Permitted"].verdict == "passed in shadow mode; would be refused"
    assert found["Permitted"].why == "require.role is not met"
    assert "require.mode = shadow" in text
    assert "ALLOWED" in text


def test_public_routes() -> None:
    """On a public route nobody looks at the token."""
    ini = INI.replace("[route /open]", "[route /open]\npublic = yes")
    found, text = explained("/open", token(exp=1), ini=ini)
    assert (found["Authenticated"].verdict, found["Authenticated"].why) == ("passed", "the route is public")
    assert "X-User-ID" not in text


def test_assertions_are_part_of_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route's assertion is shown hidden, with the setting that asks for it; explaining keeps no key."""
    monkeypatch.chdir(tmp_path)
    ini = INI.replace("[route /open]", "[route /open]\nassertion = user")
    _, text = explained("/open", token(), ini=ini)
    assert "  | X-Gateway-Assertion: (hidden)\n" in text
    number = ini.split("\n").index("assertion = user") + 1
    assert f"[route /open] assertion = user (gateway.ini line {number})" in text
    assert not list(tmp_path.iterdir())


def test_json_says_the_same() -> None:
    """Programs read the verdict, every stage with its settings, and the head."""
    seen, notes = look(parse(INI, {}), Asked(b"GET /api HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token() + b"\r\n\r\n"))
    found = as_dict(seen, notes)
    assert (found["verdict"], found["status"], found["route"]) == ("allowed", None, "/api")
    assert found["upstream"] == "http://user-service.internal:9001"
    assert "X-User-Role: admin" in found["forwarded"]
    limited = next(stage for stage in found["stages"] if stage["stage"] == "RateLimited")
    assert limited["settings"][0] == {
        "section": "route /api", "option": "ratelimit.limit", "value": "7", "file": "gateway.ini",
        "line": line("ratelimit.limit"), "default": False,
    }  # fmt: skip
    assert re.fullmatch(r"counters, .* fresh\.", found["notes"][0])
