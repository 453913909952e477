"""
Measures one case: all its peers alive at once, one of them loaded at a time, in interleaved rounds (A B C, C B A, …).

What a peer still does after a slice, such as writing rows it has buffered, is part of its cost.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.cases import Case
from tests.bench.idle import Idle
from tests.bench.keys import Keys
from tests.bench.load import PATH, Count, Load, ask, at_rate, wrk
from tests.bench.peers import Peer, origin
from tests.bench.processes import Failed, core_seconds

#: Seconds after a slice in which the peer's processor time still counts.
SETTLE = 0.8

#: Seconds for all users to have been seen once.
WARM = 60


@dataclass
class Bench:
    """What all cases of a run share: keys, the origin, processors, durations (seconds)."""

    folder: Path
    keys: Keys
    upstream: int
    peer_cpu: int
    load_cpu: int
    rounds: int
    seconds: float
    say: Any = print

    def tokens(self, variant: str, users: int) -> Path:
        """A file of tokens."""
        return self.keys.tokens(variant, users)


@contextlib.contextmanager
def bench(peer_cpu: int, load_cpu: int, rounds: int, seconds: float, say: Any = print) -> Iterator[Bench]:
    """A folder, keys and an origin, for as long as a run takes."""
    # Asked to stop, it stops its peers first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        program, port = origin(folder / "origin", load_cpu)
        try:
            yield Bench(folder, Keys(folder / "keys"), port, peer_cpu, load_cpu, rounds, seconds, say)
        finally:
            program.stop()


def slice_of(run: Bench, peer: Peer, load: Load, count: Count, refused: bool = False, least: float = 0) -> dict[str, float]:
    """One peer for some seconds: CPU microseconds a request, requests a second, memory, and how quiet it was."""
    cpu, core, began = peer.program.cpu_seconds(), core_seconds(run.peer_cpu), time.monotonic()
    said = wrk(peer.port, load, max(run.seconds, least), run.load_cpu, count, refused)
    busy, lasted = peer.program.cpu_seconds() - cpu, time.monotonic() - began
    rss, pss = peer.program.memory()
    time.sleep(SETTLE)
    spent = peer.program.cpu_seconds() - cpu
    others = core_seconds(run.peer_cpu) - core - spent
    return {
        "cpu": spent / said["answered"] * 1e6, "rate": said["answered"] / said["microseconds"] * 1e6,
        "p50": said["p50"], "p99": said["p99"], "rss": rss, "pss": pss, "busy": busy / lasted,
        "others": max(0.0, others) / (time.monotonic() - began),
    }  # fmt: skip


def _load(run: Bench, case: Case, peer: Peer) -> tuple[Load, bool]:
    refused = bool(case.refused) and peer.name != "nginx"
    load = Load(
        tokens=None if refused and case.refused == 401 else run.tokens(case.variant, case.users),
        users=case.users, method=case.method, path=PATH + case.path, body=case.body,
        headers=case.headers, connections=case.connections,
    )  # fmt: skip
    return load, refused


def _warm(run: Bench, case: Case, peer: Peer, count: Count) -> None:
    """Until caches are full and connections made; at the end one answer must be what the case is about."""
    load, refused = _load(run, case, peer)
    token = run.keys.token(case.variant) if load.tokens else None
    if case.refused == 429 and refused:
        # Every user's one request is spent here, so every later answer is a refusal.
        for line in load.tokens.read_text().split() if load.tokens else ():
            ask(peer.port, line, count)[1].close()
    else:
        wrk(peer.port, load, max(min(run.seconds, 2), case.least), run.load_cpu, count, refused)
        deadline = time.monotonic() + WARM
        while load.tokens and count.answered < case.users * 1.1 and time.monotonic() < deadline:
            wrk(peer.port, load, 2, run.load_cpu, count, refused)
    status, connection = ask(peer.port, token, count)
    connection.close()
    if status != (case.refused if refused else 200):
        raise Failed(f"{peer.name} answers {status}")


def measured(run: Bench, case: Case, peers: tuple[str, ...]) -> dict[str, Any]:
    """
    A case's figures: for every peer its slices, and for the gateway what its audit says.

    @raise Failed: when a peer does not do what the case is about.
    """
    started: list[Peer] = []
    counts = {name: Count() for name in peers}
    slices: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    folder = run.folder / case.name
    setup = {"variant": case.variant, **case.setup}
    with contextlib.ExitStack() as stack:
        for name in peers:
            peer = Peer(name, folder / name, run.keys, run.upstream, run.peer_cpu, **setup)
            stack.callback(peer.program.stop)
            started.append(peer)
            _warm(run, case, peer, counts[name])
        held = [
            stack.enter_context(Idle(peer.port, run.keys.token(case.variant), case.idle, counts[peer.name]))
            for peer in started if case.idle
        ]  # fmt: skip
        time.sleep(SETTLE)
        for turn in range(run.rounds):
            for peer in started[:: -1 if turn % 2 else 1]:
                load, refused = _load(run, case, peer)
                found = slice_of(run, peer, load, counts[peer.name], refused, case.least)
                slices[peer.name].append(found)
                run.say(f"  {case.name} {turn + 1}/{run.rounds} {peer.name:<8} {found['cpu']:9.1f} us/request, "
                        f"{found['rate']:7.0f} requests/s, peer busy {found['busy']:.0%}, others {found['others']:.0%}")  # fmt: skip
        if sum(idle.closed() for idle in held):
            raise Failed("idle connections were closed")
    result: dict[str, Any] = {"slices": slices}
    result |= _audit(case, started, counts)
    shutil.rmtree(folder)
    return result


def _audit(case: Case, peers: list[Peer], counts: dict[str, Count]) -> dict[str, Any]:
    """The gateway has stopped: is there a row for every request?"""
    for peer in peers:
        if peer.name == "gateway":
            found: dict[str, Any] = {"reactor": peer.reactor()}
            if case.setup.get("audit") != "off":
                found["audit"] = audited(peer, counts["gateway"])
            return found
    return {}


def audited(peer: Peer, count: Count) -> dict[str, Any]:
    """
    What the log of a stopped gateway holds beside what was asked. Complete: nothing lost, and as many rows
    as answers, or up to as many as were begun: the load generator's end cuts off requests the gateway still has rows for.
    """
    rows, lost = peer.remembered()
    complete = not lost and count.answered <= rows <= count.sent
    return {"rows": rows, "lost": lost, "answered": count.answered, "sent": count.sent, "complete": complete}


def latencies(run: Bench, peers: tuple[str, ...], rate: float) -> dict[str, Any]:
    """p50 and p99 at one fixed rate, of the origin itself and of every peer."""
    ports = {"origin": run.upstream}
    counts = {name: Count() for name in ("origin", *peers)}
    slices: dict[str, list[dict[str, float]]] = {name: [] for name in counts}
    token, result = run.keys.token("hs256"), {"offered": rate, "slices": slices}
    started: list[Peer] = []
    with contextlib.ExitStack() as stack:
        for name in peers:
            peer = Peer(name, run.folder / "latency" / name, run.keys, run.upstream, run.peer_cpu)
            stack.callback(peer.program.stop)
            started.append(peer)
            ports[name] = peer.port
            wrk(peer.port, Load(run.tokens("hs256", 1000)), 1, run.load_cpu, counts[name])
        for turn in range(run.rounds):
            for name, port in list(ports.items())[:: -1 if turn % 2 else 1]:
                found = at_rate(port, token, rate, run.seconds, run.load_cpu, counts[name], run.folder)
                slices[name].append(found)
                run.say(f"  latency {turn + 1}/{run.rounds} {name:<8} p50 {found['p50'] / 1e3:.3f} ms, p99 {found['p99'] / 1e3:.3f} ms")
    for peer in started:
        if peer.name == "gateway":
            result["audit"] = audited(peer, counts["gateway"])
    return result
