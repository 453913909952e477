"""Tests for gateway.audit: every row once, whatever the disk does."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.query import last_rows, table
from gateway.audit.record import Row, flat, iso, values
from gateway.audit.schema import VERSION, WrongVersion, delete_before, index_users, open_database
from gateway.audit.writer import AuditWriter

LONG = 20.0


def row(user: str | None = "alice", reason: str = "", path: bytes = b"/a", ip: str = "192.0.2.1", began: float = 1_700_000_000.25) -> Row:
    """A row."""
    return (began, 0.25, user, b"GET", path, 200, ip, b"agent", b"id", "/a", "http://b", reason, 3, 4, "100/60s")


class Notes(list[tuple[str, str]]):
    """What the operator is told."""

    def __call__(self, level: str, text: str) -> None:
        self.append((level, text))


@pytest.fixture
def notes() -> Notes:
    """Empty ears."""
    return Notes()


@contextlib.contextmanager
def writing(path: Path, notes: Notes, **options: float) -> Iterator[AuditWriter]:
    """A writer, stopped at the end; its thread is gone then."""
    writer = AuditWriter(str(path), note=notes, **{"flush_interval": 0.01, **options})  # type: ignore[arg-type]
    writer.start()
    try:
        yield writer
    finally:
        writer.stop(LONG)
        assert "audit" not in [thread.name for thread in threading.enumerate()]


def read(path: Path, what: str = "path", source: str = "audit_logs") -> list[object]:
    """A column."""
    connection = sqlite3.connect(path)
    found = [each[0] for each in connection.execute(f"SELECT {what} FROM {source} ORDER BY id")]
    connection.close()
    return found


def test_a_row(tmp_path: Path, notes: Notes) -> None:
    """A row has the original's columns with its meanings, and ours behind them."""
    with writing(tmp_path / "a", notes) as writer:
        writer.append(row(None))
    found = last_rows(str(tmp_path / "a"), 5)[0]
    assert found == {
        "id": 1, "timestamp": "2023-11-14T22:13:20.250Z", "user_id": "anonymous", "method": "GET", "path": "/a", "status": 200,
        "duration_ms": 250, "ip": "192.0.2.1", "user_agent": "agent", "request_id": "id", "route": "/a", "upstream": "http://b",
        "reason": "", "bytes_in": 3, "bytes_out": 4, "detail": "100/60s", "worker": 0,
    }  # fmt: skip
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert notes == []


@pytest.mark.parametrize("raw", [b"a'b\"c;--", b"a\nb\r\tc", b"\x00", b"\xff\xfe", "é☃".encode(), b"x" * 8192, b"\\x00", b""])
def test_row_15_any_bytes(tmp_path: Path, notes: Notes, raw: bytes) -> None:
    """Row 15 (CVE-2025-25294): any bytes are one row that reads back."""
    with writing(tmp_path / "a", notes) as writer:
        writer.append(row(path=raw))
        writer.append(row("o'\ud800\n"))
    assert read(tmp_path / "a") == [raw.decode("utf-8", "backslashreplace").replace("\x00", "\\x00"), "/a"]
    assert read(tmp_path / "a", "user_id")[1] == "o'\\ud800\n"


def test_threads_lose_and_double_nothing(tmp_path: Path, notes: Notes) -> None:
    """While rows are appended and written at once, each is written once and in order."""
    with writing(tmp_path / "a", notes, batch=7, queue=1_000_000) as writer:
        for number in range(30_000):
            writer.append(row(path=b"%d" % number))
    assert read(tmp_path / "a") == [str(number) for number in range(30_000)]
    assert (writer.rows_written, writer.rows_lost, writer.queue_length()) == (30_000, 0, 0)


def test_overflow_is_counted_and_recorded(tmp_path: Path, notes: Notes) -> None:
    """Beyond the queue rows are lost, counted, and the loss itself is on record."""
    with writing(tmp_path / "a", notes, queue=100, flush_interval=LONG) as writer:
        for _ in range(130):
            writer.append(row())
        assert (writer.queue_length(), writer.rows_lost) == (100, 30)
    assert len(read(tmp_path / "a")) == 100
    assert read(tmp_path / "a", "kind || ' ' || count", "audit_notes") == ["lost 30"]
    assert [level for level, _ in notes] == ["error"]


def test_strangers_cannot_crowd_users_out(tmp_path: Path, notes: Notes) -> None:
    """Over half full, strangers' refusals are counted by address and reason; users' rows go on."""
    with writing(tmp_path / "a", notes, queue=100, flush_interval=LONG) as writer:
        for _ in range(500):
            writer.append(row(None, "no_token"))
        for _ in range(40):
            writer.append(row("bob"))
        assert writer.rows_lost == 0
    assert read(tmp_path / "a", "user_id").count("bob") == 40
    assert read(tmp_path / "a", "user_id").count("anonymous") == 50
    assert read(tmp_path / "a", "kind || ' ' || count || ' ' || detail", "audit_notes") == [
        'strangers 450 {"ip": "192.0.2.1", "reason": "no_token"}'
    ]


def test_a_flood_from_everywhere_is_bounded(tmp_path: Path, notes: Notes) -> None:
    """However many addresses a flood has, a bounded number is told apart."""
    with writing(tmp_path / "a", notes, queue=10, flush_interval=LONG) as writer:
        for number in range(12_000):
            writer.append(row(None, "no_token", ip=str(number)))
        assert len(writer._strangers) <= 10_001
    assert sum(int(str(n)) for n in read(tmp_path / "a", "count", "audit_notes")) == 12_000 - 5


def test_a_locked_database(tmp_path: Path, notes: Notes) -> None:
    """Rows wait while somebody holds the lock; told once as it begins and once as it ends."""
    with writing(tmp_path / "a", notes) as writer:
        lock = sqlite3.connect(tmp_path / "a", isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN IMMEDIATE")
        for number in range(20):
            writer.append(row(path=b"%d" % number))
        assert not writer.flushed(LONG)
        lock.execute("ROLLBACK")
        lock.close()
        assert writer.flushed(LONG)
    assert read(tmp_path / "a") == [str(number) for number in range(20)]
    assert [level for level, _ in notes] == ["error", "info"]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 400 KiB; not below tmp_path, which other runs of pytest tidy up."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("no right to mount a small file system: " + mounted.stderr.decode().strip())
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk: Path, notes: Notes) -> None:
    """On a full file system rows wait, none is half written; when there is room they are written."""
    with writing(small_disk / "a", notes, queue=100_000) as writer:
        for number in range(5000):
            writer.append(row(path=b"%d" % number))
        assert not writer.flushed(LONG)
        assert writer.queue_length() > 0
        assert notes[0][0] == "error"
        subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
        deadline = time.monotonic() + LONG
        while not writer.flushed(1.0):
            assert time.monotonic() < deadline
    assert read(small_disk / "a") == [str(number) for number in range(5000)]
    assert [level for level, _ in notes] == ["error", "info"]


CHILD = """
import sys
from gateway.audit.writer import AuditWriter
writer = AuditWriter(sys.argv[1], flush_interval=0.01, queue=10**7)
writer.start()
number = 0
while True:
    writer.append((1.0, 0.0, "u", b"GET", b"%d" % number, 200, "", None, b"", "", "", "", 0, 0, ""))
    number += 1
    if number % 1000 == 0:
        print(writer.rows_written, flush=True)
"""


def test_kill_9(tmp_path: Path) -> None:
    """After kill -9 what was committed is there, first rows first, and the database is whole."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    written = 0
    while written < 3000:
        written = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    found = read(tmp_path / "a")
    assert len(found) >= written
    assert found == [str(number) for number in range(len(found))]
    assert read(tmp_path / "a", "1", "pragma_integrity_check JOIN (SELECT 1 AS id)") == [1]


def test_retention(tmp_path: Path, notes: Notes) -> None:
    """Rows older than the retention go, in slices; younger ones stay."""
    with writing(tmp_path / "a", notes, retention=30, flush_interval=LONG) as writer:
        for age in (40, 35, 31, 29, 1):
            writer.append(row(path=b"%d" % age, began=time.time() - age * 86400))
    assert read(tmp_path / "a") == ["29", "1"]


def test_rows_by_user(tmp_path: Path, notes: Notes) -> None:
    """A user's rows are found by way of their index, and those it does not have yet beside it."""
    path = tmp_path / "a"
    with writing(path, notes) as writer:
        for number in range(1000):
            writer.append(row(user=f"u{number % 50}", path=b"%d" % number))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        plan = str(database.execute("EXPLAIN QUERY PLAN SELECT * FROM audit_by_user WHERE user_id = 'u7'").fetchall())
        assert "SEARCH u USING PRIMARY KEY (user_id=?)" in plan
        assert database.execute("SELECT count(*) FROM audit_users").fetchone() == (1000,)
        database.execute("INSERT INTO audit_logs (timestamp, user_id, method, path, status, duration_ms) VALUES ('t', 'u7', 'GET', 'new', 200, 0)")
        assert [each["path"] for each in last_rows(str(path), 3, user="u7")] == ["907", "957", "new"]
        assert not index_users(database, 0)
        assert index_users(database)
    assert [each["path"] for each in last_rows(str(path), 100, user="u7")] == [str(n) for n in range(7, 1000, 50)] + ["new"]


def test_retention_takes_the_index_along(tmp_path: Path, notes: Notes) -> None:
    """What is deleted leaves the index of users too."""
    path = tmp_path / "a"
    with writing(path, notes) as writer:
        writer.append(row(began=time.time() - 40 * 86400))
        writer.append(row(began=time.time()))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert delete_before(database, iso(time.time() - 30 * 86400), 10) == 1
        assert database.execute("SELECT log_id FROM audit_users").fetchall() == [(2,)]


def test_the_originals_table(tmp_path: Path, notes: Notes) -> None:
    """A database with the original's table is taken over, its rows kept."""
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute(
        "CREATE TABLE audit_logs (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, user_id TEXT NOT NULL, "
        "method TEXT NOT NULL, path TEXT NOT NULL, status INTEGER NOT NULL, duration_ms INTEGER NOT NULL, ip TEXT, user_agent TEXT)"
    )
    connection.execute("INSERT INTO audit_logs VALUES (7, 't', 'u', 'GET', '/old', 200, 1, 'i', 'a')")
    connection.commit()
    connection.close()
    with writing(tmp_path / "a", notes) as writer:
        writer.append(row())
    assert read(tmp_path / "a") == ["/old", "/a"]
    assert read(tmp_path / "a", "reason") == ["", ""]


def test_a_database_without_detail(tmp_path: Path, notes: Notes) -> None:
    """A database from before the column detail gets it; its rows have an empty one."""
    with writing(tmp_path / "a", notes) as writer:
        writer.append(row())
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute("DROP VIEW audit_by_user")
    connection.execute("ALTER TABLE audit_logs DROP COLUMN detail")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with writing(tmp_path / "a", notes) as writer:
        writer.append(row())
    assert read(tmp_path / "a", "detail") == ["", "100/60s"]


def test_a_newer_version(tmp_path: Path) -> None:
    """A database of a newer gateway is refused and left as it is."""
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(WrongVersion, match=f"version {VERSION + 1}"):
        open_database(str(tmp_path / "a"))


def test_no_database(tmp_path: Path, notes: Notes) -> None:
    """A file that is no database is an error at the start, not later."""
    (tmp_path / "a").write_bytes(b"something else entirely" * 100)
    writer = AuditWriter(str(tmp_path / "a"), note=notes)
    with pytest.raises(sqlite3.DatabaseError):
        writer.start()


def test_query(tmp_path: Path, notes: Notes) -> None:
    """The newest rows, newest last, of one user or status; control characters can't move the cursor."""
    with writing(tmp_path / "a", notes) as writer:
        for number in range(5):
            writer.append(row("bob" if number % 2 else "eve\x1b[2J", path=b"/%d" % number))
    assert [r["path"] for r in last_rows(str(tmp_path / "a"), 2)] == ["/3", "/4"]
    assert [r["path"] for r in last_rows(str(tmp_path / "a"), 9, user="bob")] == ["/1", "/3"]
    assert last_rows(str(tmp_path / "a"), 9, status=404) == []
    text = table(last_rows(str(tmp_path / "a"), 9))
    assert "\x1b" not in text
    assert "eve\\x1b[2J" in text
    assert len(text.splitlines()) == 6


def test_values_and_times() -> None:
    """The timestamp is the request's beginning, in UTC with milliseconds."""
    assert iso(0.0015) == "1970-01-01T00:00:00.001Z"
    assert values(row())[0] == "2023-11-14T22:13:20.250Z"


paths = st.one_of(st.just(b"/a"), st.binary(max_size=20), st.just("é".encode()))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(paths, st.one_of(st.none(), st.text(st.characters(), max_size=5)), st.one_of(st.none(), st.binary(max_size=5)), st.floats(0, 4e9)), min_size=1, max_size=6))
def test_columns_are_rows(given_rows: list[tuple[bytes, str | None, bytes | None, float]]) -> None:
    """Many rows at once are what each of them is alone."""
    rows: list[Row] = [(*(row(user, path=path, began=ended))[:7], agent, *(row())[8:]) for path, user, agent, ended in given_rows]  # type: ignore[misc]
    assert flat(rows) == [value for each in rows for value in values(each)]


def test_another_database(tmp_path: Path, notes: Notes) -> None:
    """Rows before the move are in the old database, rows after it in the new one, both closed; none twice."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    with writing(one, notes, flush_interval=60) as writer:
        writer.append(row(path=b"/1"))
        writer.reconfigure(1, 0.01, 1000, 0, (str(two), open_database(str(two))))
        assert writer.flushed(LONG)
        writer.append(row(path=b"/2"))
        assert writer.flushed(LONG)
        never = open_database(str(two))
        writer.reconfigure(1, 60, 1000, 0, (str(two), never))
        writer.reconfigure(1, 60, 1000, 0, (str(three), open_database(str(three))))
        assert writer.flushed(LONG)
        writer.append(row(path=b"/3"))
        with pytest.raises(sqlite3.ProgrammingError):
            never.execute("SELECT 1")
    assert [read(path) for path in (one, two, three)] == [["/1"], ["/2"], ["/3"]]
    assert not list(tmp_path.glob("*-wal"))
    assert (writer.seen(), notes) == (3, [])


def test_another_database_is_the_cure_for_a_broken_one(tmp_path: Path, notes: Notes) -> None:
    """Rows that wait for a database nobody can write go to the new one."""
    one, two = tmp_path / "one", tmp_path / "two"
    with writing(one, notes) as writer:
        lock = sqlite3.connect(one, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        writer.append(row(path=b"/1"))
        assert not writer.flushed(LONG)
        writer.reconfigure(10, 0.01, 1000, 0, (str(two), open_database(str(two))))
        assert writer.flushed(LONG)
        lock.execute("ROLLBACK")
        lock.close()
    assert (read(one), read(two)) == ([], ["/1"])


def test_a_smaller_queue_holds_at_once(tmp_path: Path, notes: Notes) -> None:
    """Other numbers hold from the next row on."""
    with writing(tmp_path / "log", notes, flush_interval=60) as writer:
        writer.reconfigure(10, 60, 2, 0)
        writer.flushed(LONG)
        lock = sqlite3.connect(tmp_path / "log", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            writer.append(row())
        assert (writer.queue_length(), writer.rows_lost) == (2, 3)
        lock.execute("ROLLBACK")
        lock.close()
        assert writer.seen() == 5


def test_the_writer_gives_way(tmp_path: Path) -> None:
    """The writer's thread is nicer than its process by five, whatever the process's own niceness is."""
    found = []

    def serve() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        writer = AuditWriter(str(tmp_path / "audit.sqlite"), flush_interval=0.01)
        writer.start()
        assert writer.flushed(10.0)
        assert writer._thread is not None
        found.append(os.getpriority(os.PRIO_PROCESS, writer._thread.native_id or 0))
        writer.stop()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert found == [8]
