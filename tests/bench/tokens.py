"""
What a token costs, CPU, by algorithm: at first sight, and when it is known.
C{python -m tests.bench.tokens} prints the rows of docs/performance.md.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jwt

from gateway.admission.identity import IdentityRules, IssuersRules
from gateway.admission.issuers import Issuer, Issuers
from gateway.admission.keysets import KeySet, Pace
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Verifier
from gateway.jwks import key_ring
from gateway.keys import hmac_key
from tests.system.issuer import private_key, public_jwk

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
SECRET = b"s" * 32
COUNT = 400
NOW = 1e9


def made(algorithm: str) -> tuple[Any, Issuer]:
    """An issuer of that algorithm, and its private key."""
    key = private_key(algorithm)
    keys = KeySet(Pace())
    document = json.dumps({"keys": [public_jwk(key, algorithm, kid="k")]}).encode()
    keys.succeeded(key_ring(document, [algorithm]), None, 0.0, 0.0)
    return key, Issuer(algorithm, algorithm, [algorithm], ("at+jwt", "jwt"), keys, lambda _raw, _waited: None)


def cost(call: Callable[[], object]) -> float:
    """Microseconds of CPU for each of the tokens, the best of several rounds."""
    best = float("inf")
    for _ in range(7):
        begun = time.process_time()
        call()
        best = min(best, time.process_time() - begun)
    return best / COUNT * 1e6


def row(name: str, tokens: list[bytes], verifier: Any, rules: Any) -> str:
    """First sight, then known."""

    def first() -> None:
        cache = TokenCache(verifier, COUNT, 1 << 26)
        for raw in tokens:
            cache.identify(raw, rules, NOW)

    cache = TokenCache(verifier, COUNT, 1 << 26)
    for raw in tokens:
        cache.identify(raw, rules, NOW)
    values = [b"Bearer " + raw for raw in tokens]

    def again() -> None:
        for value in values:
            cache.known(value, rules, NOW)

    return f"| {name} | {cost(first):.0f} µs | {cost(again):.2f} µs |"


def main() -> None:
    """Print the table."""
    issuers = {algorithm: made(algorithm) for algorithm in ALGORITHMS}
    local = Verifier(hmac_key(SECRET, ["HS256"]))
    several = Issuers([issuer for _, issuer in issuers.values()], local)
    rules = IssuersRules({"": IdentityRules(), **{name: IdentityRules(issuer=name) for name in issuers}})
    claims = [{"sub": "alice", "exp": 9e9, "role": "admin", "n": number} for number in range(COUNT)]
    own = [jwt.encode(each, SECRET, "HS256").encode() for each in claims]
    rows = ["| token | at first sight | known |", "|---|---|---|", row("HS256, no issuers", own, local, IdentityRules())]
    rows.append(row("HS256 beside issuers", own, several, rules))
    for name, (key, _) in issuers.items():
        tokens = [jwt.encode({**each, "iss": name}, key, name, {"kid": "k"}).encode() for each in claims]
        rows.append(row(f"{name} of an issuer", tokens, several, rules))
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
