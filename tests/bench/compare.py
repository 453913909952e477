"""
What a request costs: this gateway with its whole job beside a bare nginx proxy_pass.

    python -m tests.bench.compare [--rounds 3] [--seconds 3] [--post BYTES]

Needs nginx and wrk (apt-get install nginx wrk) and two processors: the gateway or nginx
runs alone on the first, load and origin on the second. CPU time of all a peer's
processes over the requests wrk counted, in interleaved rounds, as medians and as a ratio:
wall-clock figures of different machines, or runs, say nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jwt

NGINX = """
daemon off; worker_processes 1; pid {folder}/{port}.pid; error_log {folder}/{port}.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 3600s; keepalive_requests 1000000000; client_max_body_size 0;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; default_type application/json;
  {upstream}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }}
}}
"""
PROXY = "proxy_pass http://origin/; proxy_http_version 1.1; proxy_set_header Connection '';"
LUA = """
local tokens, body = {{}}, string.rep("x", {post})
for line in io.lines("{tokens}") do tokens[#tokens + 1] = line end
request = function()
  local headers = {{ ["Authorization"] = "Bearer " .. tokens[math.random(#tokens)] }}
  return wrk.format({post} > 0 and "POST" or "GET", nil, headers, {post} > 0 and body or nil)
end
"""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nginx(folder: Path, port: int, cpu: int, location: str, origin: int = 0) -> subprocess.Popen[bytes]:
    """An nginx with one worker."""
    upstream = f"upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}" if origin else ""
    conf = folder / f"{port}.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, location=location, upstream=upstream))
    return subprocess.Popen(["taskset", "-c", str(cpu), "nginx", "-p", str(folder), "-c", str(conf), "-e", str(folder / "e")])


def cpu_seconds(root: int) -> float:
    """User and system time of a process and its children, with all their threads."""
    total, tick = 0.0, os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == root or int(fields[1]) == root:
            total += (int(fields[11]) + int(fields[12])) / tick
    return total


def load(port: int, seconds: int, script: Path) -> int:
    """Requests answered."""
    out = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/api/v1/users/"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if "Non-2xx" in out:
        raise SystemExit(out)
    found = re.search(r"(\d+) requests in", out)
    assert found is not None, out
    return int(found[1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--post", type=int, default=0, help="POST bodies of so many bytes instead of GET")
    options = parser.parse_args()
    for tool in ("nginx", "wrk", "taskset"):
        if shutil.which(tool) is None:
            print(f"compare: {tool} is not installed: apt-get install nginx wrk util-linux", file=sys.stderr)
            return 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secret = secrets.token_urlsafe(48)
        (folder / "hs256.secret").write_text(secret)
        (folder / "hs256.secret").chmod(0o600)
        claims = [{"sub": f"user-{n}", "role": "member", "exp": time.time() + 36000} for n in range(1000)]
        (folder / "tokens").write_text("".join(jwt.encode(each, secret, "HS256") + "\n" for each in claims))
        script = folder / "load.lua"
        script.write_text(LUA.format(post=options.post, tokens=folder / "tokens"))
        origin, bare, ours = free_port(), free_port(), free_port()
        environ = {**os.environ, "PORT": str(ours), "CPUS": "0", "KEYS": name, "RUN": str(folder / "run"), "UPSTREAM_PORT": str(origin)}
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        running = [nginx(folder, origin, 1, "return 200 '" + "x" * 200 + "';"), nginx(folder, bare, 0, PROXY, origin)]
        running.append(subprocess.Popen([str(Path(__file__).with_name("start"))], env=environ))
        try:
            time.sleep(2)
            peers = {"nginx": (running[1].pid, bare), "gateway": (running[2].pid, ours)}
            costs: dict[str, list[float]] = {name: [] for name in peers}
            for _ in range(options.rounds):
                for peer, (pid, port) in peers.items():
                    load(port, 1, script)
                    before = cpu_seconds(pid)
                    count = load(port, options.seconds, script)
                    time.sleep(0.6)  # what is buffered is part of the cost
                    costs[peer].append((cpu_seconds(pid) - before) / count * 1e6)
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait()
    medians = {peer: statistics.median(values) for peer, values in costs.items()}
    for peer, value in medians.items():
        print(f"{peer:<8} {value:7.1f} us of CPU a request, {value / medians['nginx']:.2f} times nginx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
