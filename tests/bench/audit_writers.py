"""
One audit database for several workers: each writes for itself, or one writes for all?

    python -m tests.bench.audit_writers [--workers 2] [--rows 200000] [--rate 5000]

"own" is the gateway's way: every process has a writer of its own on one WAL database.
"pipe" hands rows over to one writer in the parent, marshalled, once in a flush interval.
First all rows at once, then so many a second. CPU is of all processes; what is lost is what
is not in the database at the end.
"""

from __future__ import annotations

import argparse
import marshal
import multiprocessing
import multiprocessing.connection
import os
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from gateway.audit.record import Row
from gateway.audit.schema import open_database
from gateway.audit.writer import AuditWriter

INTERVAL = 0.25


def row(number: int) -> Row:
    """What a request leaves."""
    user = f"user-{number * 7919 % 1000}"
    return (
        time.time(), 0.002, user, b"GET", b"/api/v1/users/%d" % number, 200, "192.0.2.1", b"bench/1.0",
        b"0d5c2f9e-8f1b-4bc1-9d6d-%012d" % number, "/api/v1/users", "http://127.0.0.1:9000", "", 0, 200,
    )  # fmt: skip


def produce(rows: int, rate: int, take: Callable[[Row], object]) -> None:
    """Rows at once, or at a rate."""
    begin = time.monotonic()
    for number in range(rows):
        if rate and number % 50 == 0:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        take(row(number))


def own(path: str, rows: int, rate: int, troubles: Connection) -> None:
    """A worker with a writer of its own."""
    notes: list[str] = []
    writer = AuditWriter(path, queue=1 << 30, note=lambda _level, text: notes.append(text), worker=1)
    writer.start()
    produce(rows, rate, writer.append)
    writer.stop(60)
    troubles.send(len(notes))


def piped(rows: int, rate: int, pipe: Connection) -> None:
    """A worker that hands its rows over."""
    kept: list[Row] = []
    due = time.monotonic() + INTERVAL

    def take(each: Row) -> None:
        nonlocal due
        kept.append(each)
        if time.monotonic() >= due or len(kept) >= 4000:
            due = time.monotonic() + INTERVAL
            pipe.send_bytes(marshal.dumps(kept))
            kept.clear()

    produce(rows, rate, take)
    pipe.send_bytes(marshal.dumps(kept))
    pipe.close()


def measure(way: str, workers: int, rows: int, rate: int) -> str:
    """One line."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "audit.sqlite3")
        open_database(path).close()
        before, begin = used(), time.monotonic()
        pipes, processes = [], []
        for _ in range(workers):
            ours, theirs = multiprocessing.Pipe(duplex=False)
            target, arguments = (own, (path, rows, rate, theirs)) if way == "own" else (piped, (rows, rate, theirs))
            process = multiprocessing.Process(target=target, args=arguments)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        troubles = sum(pipe.recv() for pipe in pipes) if way == "own" else gather(path, pipes)
        for process in processes:
            process.join()
        took, cpu, total = time.monotonic() - begin, used() - before, workers * rows
        connection = sqlite3.connect(path)
        written = connection.execute("SELECT count(*) FROM audit_logs").fetchone()[0]
        connection.close()
    pace = f"{rate:>6}/s each" if rate else "   all at once"
    return (
        f"{way:<5} {workers} workers {pace}: {total / took:9,.0f} rows/s, {cpu / total * 1e6:5.2f} us of CPU a row, "
        f"{total - written} lost, {troubles} complaints"
    )


def gather(path: str, pipes: list[Connection]) -> int:
    """The one writer."""
    notes: list[str] = []
    writer = AuditWriter(path, queue=1 << 30, note=lambda _level, text: notes.append(text))
    writer.start()
    while pipes:
        for pipe in multiprocessing.connection.wait(pipes):
            assert isinstance(pipe, Connection)
            try:
                for each in marshal.loads(pipe.recv_bytes()):
                    writer.append(each)
            except EOFError:
                pipes.remove(pipe)
    writer.stop(60)
    return len(notes)


def used() -> float:
    """CPU seconds of this process and of those that have ended."""
    return sum(
        each.ru_utime + each.ru_stime
        for each in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=5_000)
    options = parser.parse_args()
    os.environ.pop("STATE_DIRECTORY", None)
    for rows, rate in ((options.rows, 0), (options.rate * 5, options.rate)):
        for _ in range(2):
            for way in ("own", "pipe"):
                print(measure(way, options.workers, rows, rate), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
