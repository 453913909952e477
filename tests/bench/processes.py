"""Starts a program in a session of its own and reads what it costs, children included, from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A program did not start, stop or answer as it should."""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stat(pid: int) -> tuple[str, int, float] | None:
    """State, session and CPU seconds (its own and its dead children's); None: it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return fields[0], int(fields[3]), sum(map(int, fields[11:15])) / TICK


def core_seconds(cpu: int) -> float:
    """How long one processor has been busy, with whomever."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _wait, irq, softirq = map(int, values[:7])
            return (user + nice + system + irq + softirq) / TICK
    raise Failed(f"no processor {cpu}")


class Program:
    """A program and all the processes of its session, pinned to one processor."""

    def __init__(self, name: str, command: list[str], cpu: int, log: Path, env: dict[str, str] | None = None) -> None:
        self.name, self._log = name, log
        with log.open("wb") as out:
            self._root = subprocess.Popen(
                ["taskset", "-c", str(cpu), *command], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip
        self.pid = self._root.pid

    def processes(self) -> dict[int, float]:
        """Its living processes, with their CPU seconds."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (seen := stat(int(entry))) and seen[1] == self.pid and seen[0] != "Z":
                found[int(entry)] = seen[2]
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all its processes and threads."""
        return sum(self.processes().values())

    def memory(self) -> tuple[float, float]:
        """Resident and proportional memory of all its processes, MiB."""
        total = {"Rss:": 0, "Pss:": 0}
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    name, _, rest = line.partition(" ")
                    if name in total:
                        total[name] += int(rest.split()[0])
        return total["Rss:"] / 1024, total["Pss:"] / 1024

    def wait_for(self, port: int, seconds: float = 20) -> None:
        """Until it listens."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._root.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise Failed(f"{self.name} does not listen: {self.tail()}")

    def tail(self) -> str:
        """The end of what it said."""
        return self._log.read_bytes()[-2000:].decode("utf-8", "replace")

    def stop(self, seconds: float = 30) -> int:
        """Asked to stop, cut after a while; its exit status."""
        if self._root.poll() is None:
            self._root.send_signal(signal.SIGTERM)
        try:
            return self._root.wait(seconds)
        except subprocess.TimeoutExpired:
            return -9
        finally:
            for pid in self.processes():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._root.wait()
