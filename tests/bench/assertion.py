"""
What a signed assertion costs: C{python -m tests.bench.assertion}. Microseconds of CPU for one
line, kept with the identity or signed, and for one whole request through the chain in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.admission.identity import Identity
from gateway.assertion.keys import generate, signing_keys
from gateway.assertion.signer import Assertion


def best(call: Callable[[], object], times: int = 2000, rounds: int = 7) -> float:
    """Microseconds of CPU for one call, in the best of some rounds."""
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(times):
            call()
        found.append((time.process_time() - begun) / times * 1e6)
    return min(found)


def main() -> None:
    """Print the table."""
    edwards = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    who = Identity("alice", "admin", b"", {"scope": "orders:read orders:write"}, 0.0, float("inf"))
    for pem in (generate(), edwards):
        key = signing_keys(pem)[0]
        for binds in (False, True):
            one = Assertion(key, "fra1", "https://orders.internal", "/api/v1/orders", 60.0, binds)

            def call(one: Assertion = one) -> bytes:
                return one.line(who, 1e9, b"GET", b"/7?q=1", b"0" * 36)

            kind = "signed for each request" if binds else "kept with the identity"
            print(f"{key.algorithm} {kind}: {best(call):.2f} microseconds")


if __name__ == "__main__":
    main()
