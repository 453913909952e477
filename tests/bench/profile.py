"""
Where the gateway's microseconds go, under load.

    python -m tests.bench.profile [--case get] [--seconds 5] [--top 30]

First by cProfile, function by function: its own cost inflates what is called often, so read
it as an order, not as durations. Then by perf, where it is installed and allowed, by shared object
and symbol: the kernel, the interpreter, OpenSSL, SQLite, all threads.
"""

from __future__ import annotations

import argparse
import pstats
import re
import shutil
import subprocess
import sys
from collections import defaultdict

from tests.bench.__main__ import log, processors, ready
from tests.bench.cases import Case, chosen
from tests.bench.load import PATH, Count, Load, wrk
from tests.bench.measure import Bench, bench
from tests.bench.peers import Peer, missing

#: Of a file's path, what a reader needs.
_SHORT = re.compile(r".*/(?=(?:gateway|twisted|zope|site-packages|python3\.\d+)/)")


def _loaded(run: Bench, case: Case, name: str, options: str) -> tuple[Peer, Load, Count]:
    peer = Peer(
        "gateway", run.folder / name, run.keys, run.upstream, run.peer_cpu,
        **{"variant": case.variant, **case.setup, "env": {"TWISTD_OPTIONS": options}},
    )  # fmt: skip
    load = Load(
        None if case.refused == 401 else run.tokens(case.variant, case.users), case.users, case.method,
        PATH + case.path, case.body, case.headers, case.connections,
    )  # fmt: skip
    count = Count()
    wrk(peer.port, load, 1, run.load_cpu, count, bool(case.refused))
    return peer, load, count


def by_function(run: Bench, case: Case, top: int) -> str:
    """Own times, by cProfile, of the reactor's thread, modules by their sum, and the first functions of each."""
    stats = run.folder / "stats"
    peer, load, count = _loaded(run, case, "cprofile", f"--profile={stats} --profiler=cprofile --savestats")
    try:
        wrk(peer.port, load, run.seconds, run.load_cpu, count, bool(case.refused))
    finally:
        peer.program.stop()
    modules: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for (file, line, function), (_, calls, own, _, _) in pstats.Stats(str(stats)).stats.items():  # type: ignore[attr-defined]
        module = _SHORT.sub("", file).removesuffix(".py") if line else "built in"
        modules[module].append((own / count.answered * 1e6, calls / count.answered, function))
    lines, shown = [f"cProfile, {count.answered:,} requests: own microseconds a request, calls a request"], 0
    for module, rows in sorted(modules.items(), key=lambda item: -sum(row[0] for row in item[1])):
        if shown >= top:
            break
        lines.append(f"{sum(row[0] for row in rows):7.2f}  {module}")
        for own, calls, function in sorted(rows, reverse=True)[:6]:
            if own >= 0.05:
                lines.append(f"{own:15.2f} {calls:6.2f}  {function}")
                shown += 1
    return "\n".join(lines)


def by_symbol(run: Bench, case: Case, top: int) -> str:
    """Samples of all threads, by shared object and by symbol."""
    if shutil.which("perf") is None:
        return "perf is not installed (apt-get install linux-perf): no picture below Python"
    data = run.folder / "perf.data"
    peer, load, count = _loaded(run, case, "perf", "")
    try:
        recording = subprocess.Popen(
            ["perf", "record", "-q", "-F", "1999", "-o", str(data), "-p", str(peer.program.pid), "--", "sleep", str(run.seconds)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wrk(peer.port, load, run.seconds, run.load_cpu, count, bool(case.refused))
        said = recording.communicate()[1]
    finally:
        peer.program.stop()
    if not data.exists() or not data.stat().st_size:
        return f"perf could not record: {said.strip()}"
    parts = []
    for keys, most in (("dso", 12), ("dso,symbol", top)):
        report = subprocess.run(
            ["perf", "report", "--stdio", "-i", str(data), "--sort", keys, "--no-children", "--percent-limit", "0.5"],
            capture_output=True, text=True,
        ).stdout  # fmt: skip
        rows = [line.rstrip(" -") for line in report.splitlines() if line.strip() and not line.startswith("#")]
        parts.append(f"perf, share of the gateway's processor time by {keys}\n" + "\n".join(rows[:most]))
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Load, print; 3: nothing can be measured here."""
    parser = argparse.ArgumentParser("python -m tests.bench.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default="get", help="one of python -m tests.bench's, without idle connections")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--top", type=int, default=30, help="functions")
    processors(parser)
    asked = parser.parse_args(argv)
    try:
        (case,) = chosen(asked.case)
    except ValueError as error:
        parser.error(str(error))
    why = missing() or case.skip
    if case.refused == 429:
        why = "the first answers of 429 are others: profile get or 401"
    if not ready("profile", why, asked.load_cpu):
        return 3
    with bench(asked.peer_cpu, asked.load_cpu, 1, asked.seconds, log) as run:
        print(by_function(run, case, asked.top), flush=True)
        print("\n" + by_symbol(run, case, asked.top))
    return 0


if __name__ == "__main__":
    sys.exit(main())
