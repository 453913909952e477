"""
What requests cost: this gateway with its whole job beside a bare nginx proxy_pass and HAProxy.

    python -m tests.bench [--quick] [--cases get,rs256,…] [--rounds N] [--seconds N]

Needs nginx and wrk (apt-get install nginx-light wrk util-linux), and two processors: a peer
runs alone on one, load and origin on the other. HAProxy, and h2load for latencies (Debian:
nghttp2-client), are used where they are installed. CPU time of all a peer's processes and
threads over the requests wrk counted, as ratios within interleaved rounds: figures of
different machines, or runs, say nothing beside each other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.cases import ALL, CASES, Case, chosen
from tests.bench.chart import chart
from tests.bench.idle import descriptors
from tests.bench.load import can_hold_rate
from tests.bench.measure import Bench, bench, latencies, measured
from tests.bench.peers import missing
from tests.bench.processes import Failed
from tests.bench.report import DOCS, costs, latency, markdown, middle, notes, rates, rewrite

#: What a quick run leaves out: what others are like, and what takes long to prepare.
SLOW = ("es256", "one-user", "100k-users", "get-64k", "idle-1k", "idle-10k", "audit-off")


def processors(parser: argparse.ArgumentParser) -> None:
    """Which ones are used; the first two that this process may have, unless told otherwise."""
    allowed = sorted(os.sched_getaffinity(0))
    parser.add_argument("--peer-cpu", type=int, default=allowed[0], help="the peer's own (default %(default)s)")
    parser.add_argument("--load-cpu", type=int, default=allowed[-1], help="the load's and the origin's (default %(default)s)")


def options(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="with commas: " + ", ".join(case.name for case in CASES))
    parser.add_argument("--peers", default=",".join(ALL), help="default %(default)s, where they are installed")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 10; --quick: 2)")
    parser.add_argument("--seconds", type=float, help="of one peer in one round (default 3; --quick: 1)")
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer cases, shorter rounds")
    parser.add_argument("--no-latency", action="store_true", help="leave out the latencies at a fixed rate")
    parser.add_argument("--rate", type=float, help="their requests a second (default: half of what the slowest peer gave)")
    processors(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every slice's figures there")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="measure nothing, show such a file")
    parser.add_argument("--write-docs", action="store_true", help="rewrite the figures in docs/performance.md and docs/performance.svg")
    asked = parser.parse_args(argv)
    try:
        asked.cases = [case for case in chosen(asked.cases) if asked.cases or not asked.quick or case.name not in SLOW]
    except ValueError as error:
        parser.error(str(error))
    asked.peers = [peer for peer in ALL if peer in asked.peers.split(",")]
    if "nginx" not in asked.peers:
        parser.error("--peers needs nginx: ratios are to it")
    asked.rounds = asked.rounds or (2 if asked.quick else 10)
    asked.seconds = asked.seconds or (1 if asked.quick else 3)
    return asked


def machine(peers: tuple[str, ...]) -> str:
    """What was measured where."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    parts = [model, f"Linux {platform.release()}", f"CPython {platform.python_version()}", f"Twisted {version('twisted')}"]
    for peer in ("nginx", "haproxy"):
        if peer in peers:
            said = subprocess.run([peer, "-v"], capture_output=True, text=True)
            parts.append((said.stdout + said.stderr).partition("\n")[0].removeprefix("nginx version: ").replace(" version", "").partition(" 20")[0])
    return ", ".join(parts)


def run_case(run: Bench, case: Case, peers: tuple[str, ...]) -> dict[str, Any]:
    """A case's figures, or why there are none under C{skip}."""
    skip = case.skip
    # A proxy has two descriptors for a connection in use, and some of its own.
    if case.idle and not descriptors(case.idle + 1000):
        skip = f"only {case.idle} descriptors and a few are needed, and the system's limit is lower: ulimit -n"
    if skip:
        return {"skip": skip}
    try:
        return measured(run, case, tuple(peer for peer in peers if peer in case.peers))
    except Failed as error:
        return {"skip": f"failed: {error}"}


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for; what there is when it is interrupted."""
    peers = tuple(peer for peer in asked.peers if shutil.which(peer) or peer == "gateway")
    results: dict[str, Any] = {
        "machine": machine(peers), "rounds": asked.rounds, "seconds": asked.seconds, "cases": {},
        "skipped": {peer: "not installed" for peer in asked.peers if peer not in peers},
    }  # fmt: skip
    try:
        with bench(asked.peer_cpu, asked.load_cpu, asked.rounds, asked.seconds, log) as run:
            for case in asked.cases:
                log(f"{case.name}: {case.label}")
                found = run_case(run, case, peers)
                if "skip" in found:
                    results["skipped"][case.name] = found["skip"]
                    log(f"  not measured: {found['skip']}")
                else:
                    results["cases"][case.name] = found
                    if "audit" in found:
                        log(f"  audit: {found['audit']}")
            if not asked.no_latency:
                _latency(run, results, peers, asked.rate)
    except KeyboardInterrupt:
        log("interrupted: what there is")
    reactors = {case["reactor"] for case in results["cases"].values() if "reactor" in case}
    results["machine"] += "".join(f", {name}" for name in sorted(reactors))
    return results


def _latency(run: Bench, results: dict[str, Any], peers: tuple[str, ...], rate: float | None) -> None:
    first = results["cases"].get("get")
    if not can_hold_rate():
        results["skipped"]["latency"] = "h2load is not installed (apt-get install nghttp2-client)"
        return
    if rate is None:
        rate = min(middle(rows, "rate") for rows in first["slices"].values()) / 2 if first else 3000.0
    log(f"latency: {rate:.0f} requests/s")
    try:
        results["latency"] = latencies(run, peers, rate)
    except Failed as error:
        results["skipped"]["latency"] = f"failed: {error}"


def ready(name: str, why: str, load_cpu: int) -> bool:
    """On the load's processor, with all the descriptors it may have; not, and told so, where there is a reason why."""
    if why:
        log(f"{name}: {why}")
        return False
    descriptors(0)
    os.sched_setaffinity(0, {load_cpu})
    return True


def log(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def write_docs(results: dict[str, Any]) -> None:
    """The tables and the picture."""
    rewrite("costs", costs(results))
    rewrite("rates", rates(results))
    rewrite("latency", latency(results) if "latency" in results else "Not measured in this run.")
    rewrite("notes", notes(results))
    (DOCS / "performance.svg").write_text(chart(results))


def main(argv: list[str] | None = None) -> int:
    """Measure, print; 1: an audit log was incomplete or a case failed, 3: nothing can be measured here."""
    asked = options(argv)
    if asked.source:
        results = json.loads(asked.source.read_text())
    else:
        if not ready("bench", missing(), asked.load_cpu):
            return 3
        results = measure(asked)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))
    print(markdown(results))
    if asked.write_docs:
        write_docs(results)
    audits = [case["audit"] for case in [*results["cases"].values(), results.get("latency", {})] if "audit" in case]
    failed = any(why.startswith("failed") for why in results["skipped"].values())
    return int(failed or not all(audit["complete"] for audit in audits))


if __name__ == "__main__":
    sys.exit(main())
