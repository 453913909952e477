"""
What a signed assertion costs: C{python -m tests.bench.assertion}. Microseconds of CPU for one
line, kept with the identity or signed. With C{--wire}: what whole requests cost whose tokens an
issuer signs that publishes its keys over HTTP, with a policy and an assertion, beside plain HS256
in turn with them; and what the first sight of such tokens costs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.admission.identity import Identity
from gateway.assertion.keys import generate, signing_keys
from gateway.assertion.signer import Assertion
from tests.bench.keys import LIFETIME, Keys
from tests.bench.load import Count, Load, ask, wrk
from tests.bench.measure import SETTLE
from tests.bench.peers import Peer, missing, origin
from tests.bench.processes import Failed
from tests.system.issuer import Child

ROUTE = "/api/v1/told"
USERS = 1000


def best(call: Callable[[], object], times: int = 2000, rounds: int = 7) -> float:
    """Microseconds of CPU for one call, in the best of some rounds."""
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(times):
            call()
        found.append((time.process_time() - begun) / times * 1e6)
    return min(found)


def lines() -> None:
    """Print what one line costs."""
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


class Wire:
    """Gateways and issuers that live as long as the measurement."""

    def __init__(self, stack: ExitStack, folder: Path, peer_cpu: int, load_cpu: int) -> None:
        self._stack, self._folder = stack, folder
        self._cpu, self._load_cpu = peer_cpu, load_cpu
        self._keys = Keys(folder / "keys")
        program, self._upstream = origin(folder / "origin", load_cpu)
        stack.callback(program.stop)
        self._issuers: dict[str, tuple[Child, Path]] = {}

    def _issuer(self, algorithm: str) -> tuple[Child, Path]:
        """One, and a file of tokens that it has signed."""
        if algorithm not in self._issuers:
            child = Child(algorithm)
            self._stack.callback(child.stop)
            path, ends = self._folder / f"{algorithm}.tokens", int(time.time()) + LIFETIME
            made = [child.token(sub=f"user-{number:06d}", role="member", exp=ends) for number in range(USERS)]
            path.write_text("\n".join(made) + "\n")
            self._issuers[algorithm] = child, path
        return self._issuers[algorithm]

    def gateway(self, name: str, algorithm: str, route: str, jwt: str = "") -> tuple[Peer, Load]:
        """One that is warm, and what it is asked; C{route}: more of the route, C{jwt}: of [jwt]."""
        extra, tokens = "", self._keys.tokens("hs256", USERS)
        if algorithm != "HS256":
            child, tokens = self._issuer(algorithm)
            extra = f"[issuer bench]\nissuer = {child.iss}\njwks = {child.iss}/jwks\nalgorithms = {algorithm}\n"
        extra += f"[route {ROUTE}]\nupstream = http://127.0.0.1:{self._upstream}\n{route}"
        env = {"EXTRA": extra, "JWT": jwt}
        peer = Peer(name, self._folder / name, self._keys, self._upstream, self._cpu, env=env)
        self._stack.callback(peer.program.stop)
        load = Load(tokens, users=USERS, path=ROUTE + "/", connections=32)
        self._until_keys(peer, tokens)
        wrk(peer.port, load, 2, self._load_cpu, Count())
        return peer, load

    @staticmethod
    def _until_keys(peer: Peer, tokens: Path) -> None:
        token = tokens.read_text().split()[0]
        for _ in range(100):
            status, connection = ask(peer.port, token, Count())
            connection.close()
            if status != 503:
                return
            time.sleep(0.1)
        raise Failed(f"{peer.name} has no keys")

    def compare(self, peers: list[tuple[Peer, Load]], rounds: int, seconds: float) -> list[list[float]]:
        """CPU microseconds a request, of each peer in each round; in turn, forth and back."""
        found: list[list[float]] = [[] for _ in peers]
        for turn in range(rounds):
            for at in range(len(peers))[:: -1 if turn % 2 else 1]:
                peer, load = peers[at]
                before, count = peer.program.cpu_seconds(), Count()
                wrk(peer.port, load, seconds, self._load_cpu, count)
                time.sleep(SETTLE)  # what is buffered is part of the cost
                found[at].append((peer.program.cpu_seconds() - before) / count.answered * 1e6)
        return found


def wire(options: argparse.Namespace) -> None:
    """Print what requests cost, and their ratios to the first in the same round."""
    told = "require.role = member\nassertion = user\n"
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, ExitStack() as stack:
        run = Wire(stack, Path(name), options.peer_cpu, options.load_cpu)
        tables = {
            "known tokens": [
                ("HS256, no policy, no assertion", run.gateway("hs256", "HS256", "")),
                ("RS256 by JWKS, policy, assertion", run.gateway("rs256", "RS256", told)),
                ("ES256 by JWKS, policy, assertion", run.gateway("es256", "ES256", told)),
            ],
            "each token at first sight (cache = 1)": [
                ("HS256", run.gateway("hs256-first", "HS256", "", "cache = 1")),
                ("RS256 by JWKS", run.gateway("rs256-first", "RS256", "", "cache = 1")),
                ("ES256 by JWKS", run.gateway("es256-first", "ES256", "", "cache = 1")),
            ],
        }
        for title, table in tables.items():
            print(title)
            costs = run.compare([peer for _, peer in table], options.rounds, options.seconds)
            for (label, _), mine in zip(table, costs, strict=True):
                ratios = sorted(one / first for one, first in zip(mine, costs[0], strict=True))
                print(f"  {label}: {statistics.median(mine):.1f} microseconds, {statistics.median(ratios):.3f} times the first"
                      f" ({ratios[0]:.3f} to {ratios[-1]:.3f})")  # fmt: skip


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.assertion")
    parser.add_argument("--wire", action="store_true", help="whole requests, with nginx behind and wrk before")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--peer-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    options = parser.parse_args()
    if not options.wire:
        lines()
    elif missing():
        print(missing(), file=sys.stderr)
        return 3
    else:
        wire(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
