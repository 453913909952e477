"""
What more of everything costs this gateway: routes, users, idle connections.

    python -m tests.bench.growth [--quick] [--parts routes,users,store,idle] [--rounds N] [--seconds N]

Gateways of different sizes stand side by side and are loaded in interleaved rounds; the
ratio is to the smallest. Needs what C{python -m tests.bench} needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from gateway.admission.windows import SlidingWindow
from gateway.stores.memory import MemoryBuckets
from tests.bench.__main__ import log, processors, ready
from tests.bench.idle import Idle, descriptors
from tests.bench.load import Count, Load, wrk
from tests.bench.measure import SETTLE, WARM, Bench, audited, bench, slice_of
from tests.bench.peers import Peer, missing
from tests.bench.processes import Failed
from tests.bench.report import DASH, rewrite, span, table

#: Connections whose Python objects are counted; counting slows their gateway down.
_TRACED = 2000


@dataclass
class Size:
    """One gateway of a row: what it is called, how it is set up, how many users and idle connections it has."""

    label: str
    users: int = 1000
    idle: int = 0
    setup: dict[str, object] = field(default_factory=dict)


ROUTES = [Size(f"{number:,} route{'s' if number > 1 else ''}", setup={"routes": number}) for number in (1, 10, 100, 1000)]
USERS = [
    Size("10 users", 10), Size("1,000 users", 1000), Size("100,000 users", 100_000),
    Size("100,000 users, cache_size = 256MiB", 100_000, setup={"env": {"JWT": "cache_size = 256MiB"}}),
]  # fmt: skip
IDLE = [Size(f"{number:,} idle connections", idle=number) for number in (10, 100, 1000, 10_000)]


def grown(run: Bench, name: str, sizes: list[Size]) -> list[dict[str, Any]]:
    """The figures of gateways of several sizes, in interleaved rounds."""
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        alive = []
        for number, size in enumerate(sizes):
            peer = Peer("gateway", run.folder / name / str(number), run.keys, run.upstream, run.peer_cpu, **size.setup)
            stack.callback(peer.program.stop)
            count, load = Count(), Load(run.tokens("hs256", size.users), size.users)
            _see_all(run, peer, load, count)
            time.sleep(SETTLE)
            before = peer.program.memory()[0]
            held = stack.enter_context(Idle(peer.port, run.keys.token("hs256"), size.idle, count)) if size.idle else None
            row: dict[str, Any] = {"label": size.label, "idle": size.idle, "grew": peer.program.memory()[0] - before, "slices": []}
            rows.append(row)
            alive.append((peer, load, count, row, held))
        for turn in range(run.rounds):
            for peer, load, count, row, _ in alive[:: -1 if turn % 2 else 1]:
                found = slice_of(run, peer, load, count)
                row["slices"].append(found)
                run.say(f"  {row['label']} {turn + 1}/{run.rounds}: {found['cpu']:.1f} us/request, RSS {found['rss']:.0f} MiB")
        for _, _, _, row, held in alive:
            if held and held.closed():
                raise Failed(f"{row['label']}: some were closed")
    for peer, _, count, row, _ in alive:
        row["audit"] = audited(peer, count)
    return rows


def _see_all(run: Bench, peer: Peer, load: Load, count: Count) -> None:
    deadline = time.monotonic() + WARM
    wrk(peer.port, load, 1, run.load_cpu, count)
    while count.answered < load.users * 1.1 and time.monotonic() < deadline:
        wrk(peer.port, load, 2, run.load_cpu, count)


def objects(run: Bench) -> dict[str, float]:
    """Bytes of Python objects that an idle connection takes, with the allocator watched."""
    run_folder = run.folder / "traced"
    peer = Peer("gateway", run_folder, run.keys, run.upstream, run.peer_cpu, env={"TRACE": "on"})
    try:
        token, count = run.keys.token("hs256"), Count()
        with Idle(peer.port, token, 64, count):  # whatever is made once, is made here
            before = _traced(peer, run_folder)
            with Idle(peer.port, token, _TRACED, count):
                after = _traced(peer, run_folder)
    finally:
        peer.program.stop()
    return {"connections": _TRACED, "bytes": (after - before) / _TRACED}


def _traced(peer: Peer, folder: Path) -> int:
    told = folder / "gateway" / "traced"
    told.unlink(missing_ok=True)
    time.sleep(SETTLE)  # rows on their way to the database are no connection's
    os.kill(peer.program.pid, signal.SIGRTMAX)
    deadline = time.monotonic() + 20
    while not told.exists():
        if time.monotonic() > deadline:
            raise Failed("the traced gateway does not answer SIGRTMAX")
        time.sleep(0.02)
    return int(told.read_text())


def store(sizes: tuple[int, ...] = (10, 1000, 100_000, 1_000_000)) -> list[dict[str, Any]]:
    """The counting store alone: what a known key costs among so many, and what each takes of memory."""
    # Each in a process of its own: memory that another has given back would hide this one's.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(_stored, sizes))


def _stored(size: int, takes: int = 200_000) -> dict[str, Any]:
    rule, names = SlidingWindow(1_000_000_000, 60_000_000), [f"user-{number:07d}" for number in range(size)]
    order = random.Random(size).choices(names, k=takes)
    before, buckets, now = _resident(), MemoryBuckets(size), int(time.time() * 1e6)
    began = time.process_time()
    for number, name in enumerate(names):
        buckets.take(rule, name, now + 10 * number)  # as in life, no two at one time
    new, took = (time.process_time() - began) / size, _resident() - before
    began = time.process_time()
    for name in order:
        buckets.take(rule, name, now + 10 * size)
    known = (time.process_time() - began) / takes
    for number in range(1000):  # it is full: none of these may find room
        buckets.take(rule, f"stranger-{number}", now + 10 * size)
    return {"keys": size, "new": new * 1e6, "known": known * 1e6, "bytes": took / size,
            "held": buckets.size(), "refused": buckets.refused_new_keys}  # fmt: skip


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def markdown(results: dict[str, Any]) -> str:
    """The tables."""
    parts = [_table(name, results[name]) for name in ("routes", "users", "idle") if name in results]
    if "objects" in results:
        found = results["objects"]
        parts.append(f"Python objects of an idle connection that has asked once: {found['bytes']:,.0f} bytes (mean of {found['connections']:,}).")
    if "store" in results:
        rows = [
            [f"{row['keys']:,}", f"{row['new']:.2f} µs", f"{row['known']:.2f} µs",
             f"{row['bytes']:.0f}" if row["keys"] >= 100_000 else DASH, f"{row['held']:,}", f"{row['refused']:,} of 1,000"]
            for row in results["store"]
        ]  # fmt: skip
        parts.append(table(["counters in memory (keys = so many)", "a new key", "a known key", "bytes a key, its text aside", "held at the end", "refused beyond"], rows))
    return "\n\n".join(parts)


def _table(name: str, rows: list[dict[str, Any]]) -> str:
    body = []
    for row in rows:
        found = [one["cpu"] / least["cpu"] for one, least in zip(row["slices"], rows[0]["slices"], strict=True)]
        memory = f"{median(each['rss'] for each in row['slices']):.0f} MiB"
        if row["idle"] >= 1000:
            memory += f", {row['grew'] * 1024 / row['idle']:.1f} KiB a connection"
        rowed = "complete" if row["audit"]["complete"] else f"**incomplete**: {row['audit']}"
        body.append([row["label"], f"{median(each['cpu'] for each in row['slices']):.1f} µs",
                     span(found), memory, f"{row['audit']['rows']:,} rows, {rowed}"])  # fmt: skip
    return table([name, "CPU a request", "ratio to the first", "RSS", "audit log"], body)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for."""
    results: dict[str, Any] = {}
    if "store" in asked.parts:
        results["store"] = store()
    with bench(asked.peer_cpu, asked.load_cpu, asked.rounds, asked.seconds, log) as run:
        for name, sizes in (("routes", ROUTES), ("users", USERS), ("idle", IDLE)):
            if name in asked.parts:
                log(name)
                most = max(size.idle for size in sizes)
                if most and not descriptors(most + 1000):
                    log(f"  less than {most:,} idle connections: the limit of descriptors (ulimit -n) is too low")
                    sizes = [size for size in sizes if size.idle < most]  # noqa: PLW2901
                results[name] = grown(run, name, sizes)
        if "idle" in asked.parts:
            results["objects"] = objects(run)
    return results


def main(argv: list[str] | None = None) -> int:
    """Measure, print; 1: an audit log was incomplete, 3: nothing can be measured here."""
    parser = argparse.ArgumentParser("python -m tests.bench.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="routes,users,store,idle")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s instead of 10 of 3 s")
    processors(parser)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write-docs", action="store_true", help="rewrite the figures in docs/performance.md")
    asked = parser.parse_args(argv)
    asked.parts = asked.parts.split(",")
    asked.rounds = asked.rounds or (2 if asked.quick else 10)
    asked.seconds = asked.seconds or (1 if asked.quick else 3)
    if not ready("growth", missing(), asked.load_cpu):
        return 3
    results = measure(asked)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))
    print(markdown(results))
    if asked.write_docs:
        rewrite("growth", markdown(results))
    rows = [row for name in ("routes", "users", "idle") for row in results.get(name, ())]
    return int(not all(row["audit"]["complete"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
