"""Loads a peer: as fast as it goes (wrk), at a fixed rate (h2load), with one request."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import Failed

PATH = "/api/v1/users/"


@dataclass(frozen=True)
class Load:
    """What is asked. C{tokens} None: without one. C{headers}: few, browser, fresh."""

    tokens: Path | None
    users: int = 1000
    method: str = "GET"
    path: str = PATH
    body: int = 0
    headers: str = "few"
    connections: int = 64


@dataclass
class Count:
    """
    Requests of one peer over a whole case: answered ones, and ones begun. The difference
    is what the load generator cut off at its own end.
    """

    answered: int = 0
    sent: int = 0


def wrk(port: int, load: Load, seconds: float, cpu: int, count: Count, refused: bool = False) -> dict[str, float]:
    """
    One slice; what wrk counted. It goes on with the users where the last one ended.

    @raise Failed: when answers were not what the case is about.
    """
    script = [
        str(load.tokens or "-"), str(load.users), load.method, str(load.body), load.headers, str(count.sent),
    ]  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s",
         "-s", str(Path(__file__).with_name("load.lua")), f"http://127.0.0.1:{port}{load.path}", "--", *script],
        capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"^JSON (.*)$", done.stdout, re.MULTILINE)
    if found is None:
        raise Failed("wrk: " + done.stdout[-300:] + done.stderr[-300:])
    said: dict[str, float] = json.loads(found[1])
    count.answered += int(said["answered"])
    count.sent += int(said["sent"])
    wrong = said["answered"] - said["refused"] if refused else said["refused"]
    if wrong or said["broken"] or not said["answered"]:
        raise Failed(f"{said['answered']:.0f} answers, {wrong:.0f} of another status, {said['broken']:.0f} broken")
    return said


def can_hold_rate() -> bool:
    """Whether there is a load generator with a fixed rate."""
    return shutil.which("h2load") is not None


def at_rate(port: int, token: str, rate: float, seconds: float, cpu: int, count: Count, folder: Path, connections: int = 16) -> dict[str, float]:
    """
    One slice at so many requests a second in all; p50 and p99 in microseconds, from the
    request's first byte to the answer's last. A late answer delays its own connection's next request only.
    """
    log, seconds = folder / "h2load.log", max(1, round(seconds))
    log.unlink(missing_ok=True)
    subprocess.run(
        ["taskset", "-c", str(cpu), "h2load", "--h1", "-t1", f"-c{connections}", f"--rps={rate / connections:g}",
         f"-D{seconds + 1}", f"--log-file={log}", "-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{port}{PATH}"],
        capture_output=True, check=True, timeout=seconds + 30,
    )  # fmt: skip
    rows = [tuple(map(int, line.split()[:3])) for line in log.read_text().splitlines()]
    count.answered += len(rows)
    count.sent += len(rows) + connections
    if not rows or any(status != 200 for _, status, _ in rows):
        raise Failed(f"h2load: {len(rows)} answers, not all of them 200")
    warm = min(began for began, _, _ in rows) + 1_000_000
    took = sorted(micros for began, _, micros in rows if began >= warm)
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100], "rate": len(took) / seconds}


def ask(port: int, token: str | None, count: Count) -> tuple[int, http.client.HTTPConnection]:
    """One small request; its status, and the connection, still open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    answer.read()
    count.answered += 1
    count.sent += 1
    return answer.status, connection
