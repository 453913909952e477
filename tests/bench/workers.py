"""
What workers cost: CPU per request of one process and of several, in interleaved rounds.

    python -m tests.bench.workers [--workers 2] [--rounds 3] [--seconds 3] [--cpus 0] [--store embedded]

Needs nginx and wrk. The gateway has the processors of --cpus, load and origin the last one.
CPU is user and system time of all the gateway's processes: supervisor, workers, and the
embedded store's server. The store is the same in both, so the ratio is the workers' own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.keys import Keys
from tests.bench.load import Count, Load, wrk
from tests.bench.peers import missing, origin
from tests.bench.processes import Program, free_port

LAST = 1


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--cpus", default="0")
    parser.add_argument("--store", default="embedded")
    options = parser.parse_args()
    if missing():
        print(missing(), file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = Keys(folder / "keys")
        load = Load(keys.tokens("hs256", 1000))
        running = [origin(folder / "origin", LAST)]
        try:
            peers: dict[int, tuple[Program, int]] = {}
            for workers in (1, options.workers):
                environ = {
                    "PORT": str(port := free_port()), "CPUS": options.cpus, "KEYS": str(keys.folder),
                    "RUN": str(folder / f"run{workers}"), "UPSTREAM_PORT": str(running[0][1]),
                    "GATEWAY": f"workers = {workers}", "STORE": options.store, "STATE_DIRECTORY": "",
                    "PYTHON": sys.executable, "TWISTD": str(Path(sys.executable).with_name("twistd")),
                }  # fmt: skip
                (folder / f"at{workers}").mkdir()
                command = ["env", "-C", str(folder / f"at{workers}"), str(Path(__file__).with_name("start").absolute())]
                # Pinned by the script itself, to one processor or several.
                program = Program(f"{workers} workers", command, LAST, folder / f"log{workers}", environ)
                peers[workers] = program, port
                running.append(peers[workers])
                program.wait_for(port)
            time.sleep(2)
            costs: dict[int, list[float]] = {workers: [] for workers in peers}
            rates: dict[int, list[float]] = {workers: [] for workers in peers}
            for _ in range(options.rounds):
                for workers, (program, port) in peers.items():
                    wrk(port, load, 1, LAST, Count())
                    before, count = program.cpu_seconds(), Count()
                    wrk(port, load, options.seconds, LAST, count)
                    time.sleep(0.6)  # what is buffered is part of the cost
                    costs[workers].append((program.cpu_seconds() - before) / count.answered * 1e6)
                    rates[workers].append(count.answered / options.seconds)
        finally:
            for program, _ in reversed(running):
                program.stop()
    for workers, values in costs.items():
        cost, rate = statistics.median(values), statistics.median(rates[workers])
        ratio = statistics.median(each / one for each, one in zip(values, costs[1], strict=True))
        print(f"{workers} workers: {cost:6.1f} us of CPU a request, {ratio:.2f} times one; {rate:,.0f} requests/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
