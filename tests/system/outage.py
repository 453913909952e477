"""
A gateway under load whose store fails: what clients are answered, how long they waited, how
soon the store is used again. C{python -m tests.system.outage} prints the numbers.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.stores.valkey import Valkey
from tests.system.tools import WAIT, Client, Daemon, Upstream, gateway, request, token


class Load:
    """Clients that ask one request after the other, each on its connection, each a user."""

    def __init__(self, port: int, clients: int = 8) -> None:
        self.answers: list[tuple[float, float, int, bool]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(port, number), daemon=True) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, number: int) -> None:
        raw = request("/api/v1/users/7", tok=token(f"user{number}"))
        with Client(port) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                client.send(raw)
                answer = client.answer()
                took = time.monotonic() - begun
                self.answers.append((begun, took, answer.status, bool(answer.values("X-RateLimit-Limit"))))

    def more(self, count: int = 200) -> None:
        """Until so many more have been answered."""
        wanted, deadline = len(self.answers) + count, time.monotonic() + WAIT
        while len(self.answers) < wanted:
            assert time.monotonic() < deadline, "the clients stand still"
            select.select([], [], [], 0.005)

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive()


def kill(valkey: Valkey) -> Callable[[], object]:
    """SIGKILL; comes back empty."""
    valkey.kill()
    return valkey.start


def stop(valkey: Valkey) -> Callable[[], object]:
    """SIGSTOP; goes on as it was."""
    valkey.signal(signal.SIGSTOP)
    return lambda: valkey.signal(signal.SIGCONT)


def full(valkey: Valkey) -> Callable[[], object]:
    """Answers -OOM."""
    valkey.ask("CONFIG", "SET", "maxmemory", "1")
    return lambda: valkey.ask("CONFIG", "SET", "maxmemory", "0")


def replica(valkey: Valkey) -> Callable[[], object]:
    """Answers -READONLY, for it has become the replica of nobody."""
    valkey.ask("REPLICAOF", "127.0.0.1", "1")
    return lambda: valkey.ask("REPLICAOF", "NO", "ONE")


FAULTS = {"kill": kill, "stop": stop, "full": full, "replica": replica}


class Outage:
    """
    What happened. C{answers} are (begun, took, status, whether the limit was told), of before,
    during and after the fault.
    """

    def __init__(self, folder: Path, policy: str, fault: str, during: int = 200, clients: int = 8) -> None:
        valkey, upstream = Valkey(), Upstream()
        ratelimit = f"store = {valkey.url}\non_store_failure = {policy}"
        try:
            with gateway(folder, upstream, ratelimit=ratelimit) as daemon:
                load = Load(daemon.port, clients)
                load.more()
                self.begun = time.monotonic()
                mend = FAULTS[fault](valkey)
                said(daemon, "can't be used")
                load.more(during)
                mend()
                self.mended = time.monotonic()
                said(daemon, "is used again")
                self.recovered = time.monotonic()
                load.more()
                load.stop()
                self.answers = load.answers
                self.reasons = Counter(row["reason"] for row in daemon.rows(len(load.answers)))
                self.log = daemon.log.read_text()
        finally:
            valkey.stop()
            upstream.stop()

    def statuses(self) -> dict[int, int]:
        """How often each was answered."""
        return dict(Counter(status for _, _, status, _ in self.answers))


def said(daemon: Daemon, text: str) -> None:
    """Until the log says so."""
    deadline = time.monotonic() + WAIT
    while text not in daemon.log.read_text():
        assert time.monotonic() < deadline, daemon.log.read_text()
        select.select([], [], [], 0.005)


def main() -> None:
    """The numbers of docs/performance.md."""
    print("policy  fault     answers  statuses                p50 ms  p99 ms  longest ms  back after ms")
    for policy in ("local", "open", "closed"):
        for fault in FAULTS:
            with tempfile.TemporaryDirectory() as folder:
                found = Outage(Path(folder), policy, fault, during=4000, clients=16)
            waits = sorted(
                took * 1000 for begun, took, *_ in found.answers if found.begun - 0.1 < begun < found.recovered
            )
            statuses = re.sub(r"[{}]", "", str(found.statuses()))
            print(f"{policy:7} {fault:8} {len(waits):8}  {statuses:22} {waits[len(waits) // 2]:7.1f} "
                  f"{waits[len(waits) * 99 // 100]:7.1f} {waits[-1]:11.1f} "
                  f"{(found.recovered - found.mended) * 1000:14.0f}")  # fmt: skip
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    sys.exit(main())
