"""
What workers cost: CPU per request of one process and of several, in interleaved rounds.

    python -m tests.bench.workers [--workers 2] [--rounds 3] [--seconds 3] [--cpus 0] [--store STORE]

Needs nginx and wrk. The gateway has the processors of --cpus, load and origin all of them.
CPU is user and system time of all the gateway's processes, the supervisor's included. The
store must be the same in both for the ratio to be the workers' own: a gateway of one process
counts in memory unless told otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jwt

from tests.bench.compare import LUA, cpu_seconds, free_port, nginx


def load(port: int, seconds: int, script: Path) -> int:
    """Requests answered."""
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/api/v1/users/"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise SystemExit(out)
    found = re.search(r"(\d+) requests in", out)
    assert found is not None, out
    return int(found[1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--cpus", default="0")
    parser.add_argument("--store", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secret = secrets.token_urlsafe(48)
        (folder / "hs256.secret").write_text(secret)
        (folder / "hs256.secret").chmod(0o600)
        claims = [{"sub": f"user-{n}", "role": "member", "exp": time.time() + 36000} for n in range(1000)]
        (folder / "tokens").write_text("".join(jwt.encode(each, secret, "HS256") + "\n" for each in claims))
        script = folder / "load.lua"
        script.write_text(LUA.format(post=0, tokens=folder / "tokens"))
        origin = free_port()
        running = [nginx(folder, origin, 1, "return 200 '" + "x" * 200 + "';")]
        peers = {}
        for workers in (1, options.workers):
            port = free_port()
            environ = {
                **os.environ, "PORT": str(port), "CPUS": options.cpus, "KEYS": name, "RUN": str(folder / f"run{workers}"),
                "UPSTREAM_PORT": str(origin), "GATEWAY": f"workers = {workers}", "STORE": options.store,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }  # fmt: skip
            running.append(subprocess.Popen([str(Path(__file__).with_name("start"))], env=environ))
            peers[workers] = (running[-1].pid, port)
        try:
            time.sleep(3)
            costs: dict[int, list[float]] = {workers: [] for workers in peers}
            rates: dict[int, list[float]] = {workers: [] for workers in peers}
            for _ in range(options.rounds):
                for workers, (pid, port) in peers.items():
                    load(port, 1, script)
                    before = cpu_seconds(pid)
                    count = load(port, options.seconds, script)
                    time.sleep(0.6)  # what is buffered is part of the cost
                    costs[workers].append((cpu_seconds(pid) - before) / count * 1e6)
                    rates[workers].append(count / options.seconds)
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait()
    for workers, values in costs.items():
        cost, rate = statistics.median(values), statistics.median(rates[workers])
        print(f"{workers} workers: {cost:6.1f} us of CPU a request, {cost / statistics.median(costs[1]):.2f} times one; {rate:,.0f} requests/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
