"""Configurations and requests made up at random, the same ones for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt

from gateway.admission.apikeys import Key, digest_of, new_key
from tests.admission.proofs import Authority, Sender, name_of, token_hash
from tests.system.issuer import private_key, public_jwk

SECRET = "s" * 40
NOW = 1_700_000_000.0


#: Who signs, shows and holds things in all configurations.
ISSUER = "https://corp.example"
SIGNER, STRANGER = private_key("ES256"), private_key("ES256")
SENDER, OTHER = Sender(), Sender()
AUTHORITY = Authority(begins=-(10**9), ends=10**9)
#: Valid at L{NOW}, as the clock of these tests says.
CERTIFICATE = AUTHORITY.issue(name_of(CN="cat"), begins=-(10**9))
FOREIGN = Authority(begins=-(10**9), ends=10**9).issue(name_of(CN="cat"), begins=-(10**9))
KEYS = {name: new_key().encode() for name in ("plain", "golden", "limited", "expired", "unknown")}
#: What the server that is asked says of opaque tokens.
OPAQUE: dict[str, dict[str, Any]] = {
    "opaque": {"active": True, "sub": "dee", "scope": "read write", "team": "x"},
    "gone": {"active": False},
    "late": {"active": True, "sub": "dee", "exp": NOW - 5},
}


def files(folder: Path) -> None:
    """What the configurations name."""
    jwks = {"keys": [public_jwk(SIGNER, "ES256", kid="k1")]}
    (folder / "jwks.json").write_text(json.dumps(jwks))
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    known = {name: digest_of(raw) for name, raw in KEYS.items() if name != "unknown"}
    lines = [
        Key("plain", known["plain"], "bot", "staff", ("read", "write")),
        Key("golden", known["golden"], "bot", plan="gold"),
        Key("limited", known["limited"], "bea", limits=((2, 60.0), (5, 600.0)), created=NOW - 500),
        Key("expired", known["expired"], "bot", expires=NOW - 1),
    ]
    (folder / "keys").write_text("".join(f"{each.line}\n" for each in lines))
    (folder / "keys").chmod(0o600)


def _others(dice: random.Random, folder: Path) -> tuple[list[str], list[list[str]]]:
    """Sections of other credentials, and what routes may say of each of them."""
    kinds: list[tuple[list[str], list[str]]] = [
        (["[apikeys]", f"file = {folder}/keys"], ["auth = apikey", "auth = apikey, jwt"]),
        (["[dpop]", f"mode = {dice.choice(('accept', 'accept', 'require'))}"], ["dpop.mode = require", "dpop.mode = off"]),
        (["[mtls]", "mode = accept", f"ca_file = {folder}/ca.pem", "user = subject.CN", "header = X-Client-Cert"],
         ["mtls.mode = require", "mtls.mode = off"]),
        (["[issuer corp]", f"issuer = {ISSUER}", f"jwks = {folder}/jwks.json", "algorithms = ES256"], ["issuers = corp"]),
        (["[introspection]", "url = https://corp.example/introspect", "refused_for = 1s"], ["issuers = introspection"]),
    ]  # fmt: skip
    some = [each for each in kinds if dice.random() < 0.5]
    return [line for lines, _ in some for line in lines], [options for _, options in some]


def configuration(seed: int, key_file: str, folder: Path) -> str:
    """An INI file; C{key_file}: of assertions; C{folder}: see L{files}. Every other one has other credentials, too."""
    dice = random.Random(seed)  # noqa: S311 - no secret

    def maybe(text: str, chance: float = 0.3) -> list[str]:
        return [text] if dice.random() < chance else []

    def limit(prefix: str = "") -> list[str]:
        kind = dice.choice(("sliding-window", "fixed-window", "gcra"))
        if dice.random() < 0.3:
            return [f"{prefix}limits = 3/10s, {dice.randint(4, 9)}/10m"]
        return [f"{prefix}limit = {dice.randint(3, 12)}", f"{prefix}window = 60s",
                f"{prefix}algorithm = {kind}", f"{prefix}burst = 3"]  # fmt: skip

    others, said = _others(dice, folder) if seed % 2 else ([], [])
    lines = ["[gateway]", "listen = tcp:1", *maybe("trusted_proxies = 10.0.0.0/8", 1.0 if "[mtls]" in others else 0.6)]
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
    lines += [*others, "[assertion]", f"key_file = {key_file}", *maybe("default = user")]
    for prefix in ("/a", "/a/staff", "/a/dear", "/b"):
        lines += [f"[route {prefix}]", f"upstream = http://127.0.0.1:9{dice.choice(('', '/base'))}"]
        lines += maybe("require.role = staff, admin") + maybe("require.scope = read, write", 0.2)
        lines += maybe("require.claim.team = x", 0.2) + maybe("methods = GET", 0.2)
        lines += maybe("require.ip = 192.0.2.0/24", 0.2) + maybe("require.scope.POST = write", 0.2)
        lines += maybe("require.time = Mon-Fri 08:00-18:00 Europe/Berlin", 0.1)
        lines += maybe("ip.allow = 192.0.2.0/24", 0.2) + maybe("cors.enabled = no", 0.2)
        lines += maybe("keep_host = yes", 0.2) + maybe("assertion = request", 0.2) + maybe("body.max_size = 2", 0.2)
        chosen = [line for options in said for line in maybe(dice.choice(options), 0.2)]
        lines += {line.partition(" ")[0]: line for line in chosen}.values()
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


def _issued(dice: random.Random) -> bytes:
    """An issuer's token, mostly."""
    claims = {"sub": "hal", "iss": ISSUER, "exp": NOW + 5000, "role": "staff", "team": "x", "scope": "read write", "aud": ["api"]}
    claims |= dice.choice([{}] * 6 + [{"exp": NOW - 10}, {"iss": ISSUER + "/"}, {"aud": "other"}])
    key = dice.choice([SIGNER] * 6 + [STRANGER])
    header = {"kid": dice.choice(["k1"] * 6 + ["k2"]), "typ": dice.choice(["at+jwt"] * 6 + ["id_token"])}
    return jwt.encode(claims, key, "ES256", headers=header).encode()


def _bound(dice: random.Random) -> bytes:
    """A token that is bound to a sender, or to a certificate."""
    bound = dice.choice(({"jkt": SENDER.jkt}, {"jkt": SENDER.jkt}, {"x5t#S256": CERTIFICATE.thumbprint}))
    claims = {"sub": "fay", "exp": NOW + 5000, "role": "staff", "team": "x", "aud": ["api"], "iss": "https://issuer.example", "cnf": bound}
    return jwt.encode(claims, SECRET, "HS256").encode()


def _presented(dice: random.Random, method: bytes, path: bytes, now: float, number: int) -> list[bytes]:
    """The lines of some other credential, mostly a good one."""
    kind = dice.choice(("key", "key", "certificate", "certificate", "issued", "opaque", "proof", "proof", "bound"))
    token = _bound(dice)
    shown = [b"X-Client-Cert: " + quote(dice.choice((CERTIFICATE, CERTIFICATE, FOREIGN)).pem, safe="").encode()]
    if kind == "key":
        lines = [b"X-API-Key: " + dice.choice(list(KEYS.values()) + [KEYS["limited"], KEYS["plain"]] * 2)]
        return lines + ([b"Authorization: Bearer " + token] if dice.random() < 0.05 else [])
    if kind == "certificate":
        return dice.choice((shown, shown, [b"X-Client-Cert: rubbish"]))
    if kind == "issued":
        return [b"Authorization: Bearer " + _issued(dice)]
    if kind == "opaque":
        return [b"Authorization: Bearer " + dice.choice((*OPAQUE, "opaque", "nobody")).encode()]
    if kind == "bound":
        return [b"Authorization: Bearer " + token, *(shown if dice.random() < 0.7 else [])]
    claims = {
        "jti": str(number // dice.choice((1, 1, 8))), "htm": dice.choice([method] * 5 + [b"PATCH"]).decode(),
        "htu": "http://h" + path.partition(b"?")[0].decode(), "iat": now - dice.choice((0, 0, 0, 0, 900)), "ath": token_hash(token),
    }  # fmt: skip
    proof = dice.choice((SENDER, SENDER, SENDER, OTHER)).proof(claims)
    return [b"Authorization: DPoP " + token, b"DPoP: " + proof]


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

    now = NOW
    for number in range(count):
        method = usually(b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE")
        good = b"Bearer " + dice.choice(tokens)
        authorization = usually(good, b"bearer " + tokens[0], b"Basic x", b"", good[:-3] + b"abc", b"Bearer x.y")
        version = usually(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0")
        body = usually(b"", b"body")
        path, later = dice.choice(PATHS[:7] * 3 + PATHS), usually(0, 5, 40)
        now += later
        lines = [b"%s %s %s" % (method, path, version), b"Host: h"]
        lines += dice.sample(FIELDS, usually(0, 1, 2))
        peer = usually("192.0.2.1", "198.51.100.2", "10.1.1.1")
        if seed % 2 and dice.random() < 0.6:
            lines += _presented(dice, method, path, now, number)
            peer = "10.1.1.1" if any(line.startswith(b"X-Client-Cert") for line in lines) else peer
        elif authorization:
            lines += [b"Authorization: " + authorization]
        lines += [b"Content-Length: 4"] if body else []
        yield peer, b"\r\n".join(lines) + b"\r\n\r\n", body, later, usually(503 if troubled else 200, 200, 500, 503)
