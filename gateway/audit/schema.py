# -*- test-case-name: tests.audit.test_schema -*-
"""
The audit database: lets a database in that is empty, ours, or the original's; refuses
one of a newer version, which this program would spoil.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

#: C{PRAGMA user_version} of what this program writes.
VERSION = 3

_TABLES = """
CREATE TABLE IF NOT EXISTS audit_logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp TEXT NOT NULL,
    user_id TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    ip TEXT,
    user_agent TEXT
);
CREATE TABLE IF NOT EXISTS audit_notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp TEXT NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    detail TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS audit_users (
    user_id TEXT NOT NULL,
    log_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, log_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit_users_upto (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    log_id INTEGER NOT NULL
);
INSERT OR IGNORE INTO audit_users_upto VALUES (1, 0)
"""

#: Our columns behind the original's eight.
_OURS = (
    ("request_id", "TEXT"),
    ("route", "TEXT"),
    ("upstream", "TEXT"),
    ("reason", "TEXT NOT NULL DEFAULT ''"),
    ("bytes_in", "INTEGER NOT NULL DEFAULT 0"),
    ("bytes_out", "INTEGER NOT NULL DEFAULT 0"),
    ("detail", "TEXT NOT NULL DEFAULT ''"),  # since version 3
    # 0: the gateway has no workers, it is one process.
    ("worker", "INTEGER NOT NULL DEFAULT 0"),
)

# Time answers "what happened last night".
_INDEX = "CREATE INDEX IF NOT EXISTS audit_logs_time ON audit_logs (timestamp)"

# User answers "what did she do". Users come in no order, so an index that every insert has
# to keep costs two thirds of it: nearly each row touches a page of its own. So it is a table
# that is filled once a second, in the order of users, and the view puts what it does not
# have yet beside it.
_BY_USER = """
CREATE VIEW audit_by_user AS
SELECT {indexed} FROM audit_users AS u CROSS JOIN audit_logs AS l ON l.id = u.log_id
UNION ALL
SELECT {columns} FROM audit_logs WHERE id > (SELECT log_id FROM audit_users_upto)
"""

_INDEX_USERS = """
INSERT OR IGNORE INTO audit_users SELECT user_id, id FROM audit_logs
WHERE id > (SELECT log_id FROM audit_users_upto) AND id <= ? ORDER BY user_id, id
"""


class WrongVersion(Exception):
    """The database was written by a newer gateway."""


def open_database(path: str, patience: float = 1.0) -> sqlite3.Connection:
    """
    Open or create the database, readable by its owner only, with its tables as they
    should be.

    @param patience: seconds to wait for another process's transaction.
    @raise WrongVersion: see there.
    @raise sqlite3.Error: when it can't be opened, read or written.
    """
    if not Path(path).exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(
        path, timeout=patience, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise WrongVersion(
            f"{path} has version {version}, this gateway knows up to {VERSION}; "
            "use a newer gateway or another file"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    # With WAL this loses no committed row when the process dies, and at most the last
    # commits when the power fails.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Pages that many users' rows touch again and again are written to the database once in
    # 32 MiB of log instead of once in 4.
    connection.execute("PRAGMA wal_autocheckpoint = 8000")
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        have = {row[1] for row in connection.execute("PRAGMA table_info(audit_logs)")}
        for name, kind in _OURS:
            if name not in have:
                connection.execute(f"ALTER TABLE audit_logs ADD COLUMN {name} {kind}")
        connection.execute(_INDEX)
        _make_view(connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _make_view(connection: sqlite3.Connection) -> None:
    """Anew at each start: it names every column there is by now."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(audit_logs)")]
    indexed = ["u.user_id" if name == "user_id" else f"l.{name}" for name in columns]
    connection.execute("DROP VIEW IF EXISTS audit_by_user")
    connection.execute(_BY_USER.format(columns=", ".join(columns), indexed=", ".join(indexed)))


def index_users(connection: sqlite3.Connection, most: int = 100_000) -> bool:
    """Take the next rows, in a transaction, into the index of users; whether that was all."""
    newest, upto = connection.execute(
        "SELECT coalesce((SELECT max(id) FROM audit_logs), 0), log_id FROM audit_users_upto"
    ).fetchone()
    until = min(newest, upto + most)
    if until > upto:
        connection.execute(_INDEX_USERS, (until,))
        connection.execute("UPDATE audit_users_upto SET log_id = ?", (until,))
    return bool(until >= newest)


def delete_before(connection: sqlite3.Connection, timestamp: str, most: int) -> int:
    """Delete some of the older rows, in a transaction; how many."""
    old = connection.execute(
        "SELECT user_id, id FROM audit_logs WHERE timestamp < ? ORDER BY timestamp LIMIT ?",
        (timestamp, most),
    ).fetchall()
    connection.executemany("DELETE FROM audit_users WHERE user_id = ? AND log_id = ?", old)
    connection.executemany("DELETE FROM audit_logs WHERE id = ?", [(each[1],) for each in old])
    return len(old)
