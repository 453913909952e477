"""
What workers and their store cost: CPU per request of several gateways, in interleaved rounds.

    python -m tests.bench.workers [--cases 1:embedded,2:embedded] [--rounds 3] [--seconds 3] [--cpus 0]

A case is a number of workers and a store (1:memory, too). Needs nginx and wrk. The gateways have the
processors of --cpus, load and origin the last one. CPU is user and system time of all the gateway's processes:
supervisor, workers, and the embedded store's server; ratios are to the first case, of each round, the median.
"""

from __future__ import annotations

import argparse
import re
import socket
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
    parser.add_argument("--cases", default="1:embedded,2:embedded")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--cpus", default="0")
    options = parser.parse_args()
    if missing():
        print(missing(), file=sys.stderr)
        return 3
    cases = options.cases.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = Keys(folder / "keys")
        load = Load(keys.tokens("hs256", 1000))
        nginx, upstream = origin(folder / "origin", LAST)
        running = [nginx]
        try:
            peers: dict[str, tuple[Program, int]] = {}
            for case in cases:
                workers, _, store = case.partition(":")
                environ = {
                    "PORT": str(port := free_port()), "CPUS": options.cpus, "KEYS": str(keys.folder),
                    "RUN": str(folder / f"run{case}"), "UPSTREAM_PORT": str(upstream),
                    "GATEWAY": f"workers = {workers}", "STORE": store, "STATE_DIRECTORY": "",
                    "PYTHON": sys.executable, "TWISTD": str(Path(sys.executable).with_name("twistd")),
                }  # fmt: skip
                (folder / f"at{case}").mkdir()
                command = ["env", "-C", str(folder / f"at{case}"), str(Path(__file__).with_name("start").absolute())]
                # Pinned by the script itself, to one processor or several.
                program = Program(case, command, LAST, folder / f"log{case}", environ)
                peers[case] = program, port
                running.append(program)
                program.wait_for(port)
            time.sleep(2)
            found: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
            for number in range(options.rounds):
                # The other way round each time, so that what changes slowly favours none.
                for case in cases[:: -1 if number % 2 else 1]:
                    found[case].append(measure(*peers[case], load, options.seconds, folder / f"at{case}"))
        finally:
            for program in reversed(running):
                program.stop()
    for case, rounds in found.items():
        print(case.rjust(12), *(f"{name} {statistics.median(each[name] for each in rounds):.1f}" for name in rounds[0]), sep="  ")
        for what in ("all", "gateway"):
            ratio = statistics.median(each[what] / one[what] for each, one in zip(rounds, found[cases[0]], strict=True))
            print(" " * 14 + f"{what}: {ratio:.2f} times {cases[0]}")
    return 0


def measure(program: Program, port: int, load: Load, seconds: int, folder: Path) -> dict[str, float]:
    """One slice: microseconds of CPU a request by part, requests a second, and requests a call of the store."""
    wrk(port, load, 1, LAST, Count())
    before, calls, count = by_part(program), store_calls(folder), Count()
    wrk(port, load, seconds, LAST, count)
    time.sleep(0.6)  # what is buffered is part of the cost
    after = by_part(program)
    parts = {name: (after[name] - before[name]) / count.answered * 1e6 for name in after}
    calls = store_calls(folder) - calls
    return {
        "all": sum(parts.values()), **parts, "requests/s": count.answered / seconds,
        "requests a call": count.answered / calls if calls else 0.0,
    }  # fmt: skip


def by_part(program: Program) -> dict[str, float]:
    """CPU seconds of the gateway, of its supervisor, and of the embedded store's server."""
    found = {"gateway": 0.0, "supervisor": 0.0, "store": 0.0}
    processes = program.processes()
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes}
    workers = any(b"gateway.workers.child" in command for command in commands.values())
    for pid, seconds in processes.items():
        if b"valkey-server" in commands[pid]:
            found["store"] += seconds
        elif workers and b"gateway.workers.child" not in commands[pid]:
            found["supervisor"] += seconds
        else:
            found["gateway"] += seconds
    return found


def store_calls(folder: Path) -> int:
    """How often the embedded store's server has been asked to count."""
    path = folder / "gateway-store" / "socket"
    if not path.exists():
        return 0
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"INFO commandstats\r\nQUIT\r\n")
        said = b"".join(iter(lambda: sock.recv(65536), b""))
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", said)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
