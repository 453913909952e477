"""How nginx, HAProxy and the gateway are started for a case, and the service behind them."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
import sys
from pathlib import Path

from tests.bench.keys import Keys
from tests.bench.processes import Program, free_port

HERE = Path(__file__).parent
SMALL = '{"id":"u-000042","name":"Grace Hopper","email":"grace@shop.example","role":"member"}'
SMALL = SMALL[:-1] + ',"notes":"' + "x" * (200 - len(SMALL) - 11) + '"}'


def missing(tools: tuple[str, ...] = ("nginx", "wrk", "taskset")) -> str:
    """Why nothing can be measured here; empty: all is well."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install nginx-light wrk util-linux)"
    if len(os.sched_getaffinity(0)) < 2:
        return "one processor only: the peer must have one of its own"
    return ""


def _rendered(name: str, run: Path, **values: object) -> Path:
    """A configuration file made of a template: @NAME@ becomes the value."""
    run.mkdir(parents=True, exist_ok=True)
    values |= {
        "RUN": run,
        "USER": "user root;" if os.geteuid() == 0 else "",
        "FILES": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    }
    path = run / name
    path.write_text(re.sub(r"@([A-Z]+)@", lambda found: str(values[found[1]]), (HERE / name).read_text()))
    return path


def _nginx(name: str, run: Path, port: int, cpu: int, **values: object) -> Program:
    conf = _rendered(name, run, PORT=port, **values)
    command = ["nginx", "-p", str(run), "-c", str(conf), "-e", str(run / "error.log")]
    return Program(conf.stem, command, cpu, run / "out")


def origin(run: Path, cpu: int) -> tuple[Program, int]:
    """The service behind, and its port."""
    files = run / "files"
    files.mkdir(parents=True)
    for name, size in (("64k", 65536), ("10m", 10 << 20)):
        (files / name).write_bytes(b"0123456789abcde\n" * (size // 16))
    port = free_port()
    program = _nginx("origin.conf", run, port, cpu, SMALL=SMALL)
    program.wait_for(port)
    return program, port


class Peer:
    """
    One peer, started for one case.

    @param setup: what the case asks of it: variant, limit, window, routes, audit, and env for C{start}.
    """

    def __init__(self, name: str, run: Path, keys: Keys, upstream: int, cpu: int, **setup: object) -> None:
        self.name, self.run, self.port = name, run, free_port()
        variant = str(setup.get("variant", "hs256"))
        limit, window = setup.get("limit", 1_000_000_000), setup.get("window", 60)
        if name == "nginx":
            self.program = _nginx("nginx.conf", run, self.port, cpu, ORIGIN=upstream)
        elif name == "haproxy":
            conf = _rendered(
                "haproxy.cfg", run, PORT=self.port, ORIGIN=upstream, LIMIT=limit, WINDOW=window,
                ALGORITHM=variant.upper(), KEY=keys.haproxy(variant),
            )  # fmt: skip
            self.program = Program(name, ["haproxy", "-db", "-f", str(conf)], cpu, run / "audit.log")
        else:
            env = {
                "PORT": self.port, "CPUS": cpu, "VARIANT": variant, "LIMIT": limit, "WINDOW": window,
                "UPSTREAM_PORT": upstream, "KEYS": keys.folder, "RUN": run / "gateway", "PYTHON": sys.executable,
                "ROUTES": setup.get("routes", 3), "AUDIT": setup.get("audit", "on"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **dict(setup.get("env", {})),  # type: ignore[call-overload]
            }  # fmt: skip
            run.mkdir(parents=True)
            command = [str(HERE / "start")]
            self.program = Program(name, command, cpu, run / "out", {key: str(value) for key, value in env.items()})
        self.program.wait_for(self.port)

    def reactor(self) -> str:
        """The gateway's reactor, as its log names it."""
        found = re.search(r"reactor class: ([\w.]+)", (self.run / "gateway/twistd.log").read_text())
        return found[1].rstrip(".").rpartition(".")[2] if found else "unknown"

    def remembered(self) -> tuple[int, int]:
        """After the stop: requests in the audit log (as rows, or counted as a stranger's), and lost ones."""
        connection = sqlite3.connect(f"file:{self.run}/gateway/audit.sqlite?mode=ro", uri=True)
        try:
            (rows,) = connection.execute("SELECT count(*) FROM audit_logs").fetchone()
            counts = dict(connection.execute("SELECT kind, sum(count) FROM audit_notes GROUP BY kind").fetchall())
        finally:
            connection.close()
        return rows + counts.get("strangers", 0), counts.get("lost", 0)
