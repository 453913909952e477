"""Configurations and requests made up at random, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import jwt

SECRET = "s" * 40
NOW = 1_700_000_000.0


def configuration(seed: int, key_file: str) -> str:
    """An INI file; C{key_file}: of assertions."""
    dice = random.Random(seed)  # noqa: S311 - no secret

    def maybe(text: str, chance: float = 0.3) -> list[str]:
        return [text] if dice.random() < chance else []

    def limit(prefix: str = "") -> list[str]:
        kind = dice.choice(("sliding-window", "fixed-window", "gcra"))
        if dice.random() < 0.3:
            return [f"{prefix}limits = 3/10s, {dice.randint(4, 9)}/10m"]
        return [f"{prefix}limit = {dice.randint(3, 12)}", f"{prefix}window = 60s",
                f"{prefix}algorithm = {kind}", f"{prefix}burst = 3"]  # fmt: skip

    lines = ["[gateway]", "listen = tcp:1", *maybe("trusted_proxies = 10.0.0.0/8", 0.6)]
    lines += maybe("client_address_header = X-Real-IP", 0.2) + maybe("max_head = 8KiB", 0.2)
    lines += maybe("max_requests_in_flight = 50", 0.3)
    lines += ["[jwt]", f"secret = {SECRET}", *maybe("issuer = https://issuer.example")]
    lines += maybe("audience = api") + maybe("leeway = 30s") + maybe("require_exp = no")
    lines += maybe("role_claim = realm.role", 0.2)
    plans = dice.random() < 0.4
    lines += ["[ratelimit]", *limit(), *maybe("refused = 4/1h", 0.4), *maybe("key = team", 0.15)]
    lines += ["plan_claim = plan", "[plan gold]", *limit()] if plans else []
    lines += ["[ip]", *maybe("deny = 198.51.100.0/24"), *maybe("allow = 192.0.2.0/24, 10.0.0.0/8", 0.2)]
    lines += ["[cors]", *maybe("allow_origin = https://a.example, https://b.example", 0.5)]
    lines += maybe("enabled = no", 0.2)
    lines += ["[body]", *maybe("max_size = 3", 0.4), "[breaker]", *maybe("failures = 2", 0.6)]
    lines += ["[assertion]", f"key_file = {key_file}", *maybe("default = user")]
    for prefix in ("/a", "/a/staff", "/a/dear", "/b"):
        lines += [f"[route {prefix}]", f"upstream = http://127.0.0.1:9{dice.choice(('', '/base'))}"]
        lines += maybe("require.role = staff, admin") + maybe("require.scope = read, write", 0.2)
        lines += maybe("require.claim.team = x", 0.2) + maybe("methods = GET", 0.2)
        lines += maybe("require.ip = 192.0.2.0/24", 0.2) + maybe("require.scope.POST = write", 0.2)
        lines += maybe("require.time = Mon-Fri 08:00-18:00 Europe/Berlin", 0.1)
        lines += maybe("ip.allow = 192.0.2.0/24", 0.2) + maybe("cors.enabled = no", 0.2)
        lines += maybe("keep_host = yes", 0.2) + maybe("assertion = request", 0.2) + maybe("body.max_size = 2", 0.2)
        lines += limit("ratelimit.") if dice.random() < 0.2 else maybe("ratelimit.cost = 2", 0.2)
        for gate in ("ip", "ratelimit", "require", "body", "breaker"):
            lines += maybe(f"{gate}.mode = shadow", 0.1)
    lines += ["[route /open]", "upstream = http://127.0.0.1:9", "public = yes", *maybe("require.ip = 192.0.2.0/24")]
    return "\n".join(lines) + "\n"


def _token(dice: random.Random) -> bytes:
    claims: dict[str, Any] = {"sub": dice.choice(("ann", "bob", "eve")), "exp": NOW + 5000}
    extra = {"role": "staff", "team": "x", "plan": "gold", "scope": "read write", "aud": ["api"],
             "iss": "https://issuer.example", "realm": {"role": "admin"}}  # fmt: skip
    claims |= {name: value for name, value in extra.items() if dice.random() < 0.7}
    if dice.random() < 0.15:
        claims |= dice.choice(({"exp": NOW - 10}, {"nbf": NOW + 100}, {"sub": 7}, {"role": 1}, {"aud": "other"},
                               {"iss": "x"}, {"exp": "soon"}, {"sub": "a@b@c"}))  # fmt: skip
    if dice.random() < 0.1:
        del claims["exp"]
    key, algorithm = dice.choice([(SECRET, "HS256")] * 9 + [("t" * 40, "HS256"), (SECRET * 2, "HS512")])
    return jwt.encode(claims, key, algorithm).encode()


PATHS = [b"/a", b"/a/b?q=1", b"/a/staff", b"/a/staff/x", b"/a/dear", b"/b/", b"/open", b"/health", b"/none", b"/a//b",
         b"/a/%2e", b"/a;x", b"/a/%2561", b"*"]  # fmt: skip
FIELDS = [b"Origin: https://b.example", b"Origin: https://evil.example", b"X-User-ID: root", b"x_user_role: admin",
          b"User-Agent: u", b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-For: 198.51.100.9, 10.0.0.3",
          b"X-Real-IP: 198.51.100.9", b"X-Real-IP: who", b"Connection: close, X-Odd", b"X-Odd: 1", b"Accept: */*",
          b"Cookie: a=b", b"Transfer-Encoding: gzip", b"Host: other", b"Expect: 200-maybe", b"X-Long: " + b"x" * 9000]  # fmt: skip


def requests(seed: int, count: int) -> Iterator[tuple[str, bytes, bytes, float, int]]:
    """(peer, the raw head, the body, seconds later, the upstream's status)."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    tokens = [_token(dice) for _ in range(6)]
    troubled = seed % 3 == 0

    def usually(common: Any, *rare: Any) -> Any:
        return common if dice.random() < 0.75 else dice.choice(rare)

    for _ in range(count):
        method = usually(b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE")
        good = b"Bearer " + dice.choice(tokens)
        authorization = usually(good, b"bearer " + tokens[0], b"Basic x", b"", good[:-3] + b"abc", b"Bearer x.y")
        version = usually(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0")
        body = usually(b"", b"body")
        lines = [b"%s %s %s" % (method, dice.choice(PATHS[:7] * 3 + PATHS), version), b"Host: h"]
        lines += dice.sample(FIELDS, usually(0, 1, 2))
        lines += [b"Authorization: " + authorization] if authorization else []
        lines += [b"Content-Length: 4"] if body else []
        peer = usually("192.0.2.1", "198.51.100.2", "10.1.1.1")
        yield peer, b"\r\n".join(lines) + b"\r\n\r\n", body, usually(0, 5, 40), usually(503 if troubled else 200, 200, 500, 503)
