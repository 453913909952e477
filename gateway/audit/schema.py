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
VERSION = 1

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
)
"""

#: Our columns behind the original's eight.
_OURS = (
    ("request_id", "TEXT"),
    ("route", "TEXT"),
    ("upstream", "TEXT"),
    ("reason", "TEXT NOT NULL DEFAULT ''"),
    ("bytes_in", "INTEGER NOT NULL DEFAULT 0"),
    ("bytes_out", "INTEGER NOT NULL DEFAULT 0"),
)

# Time answers "what happened last night", user "what did she do" (in the order of the ids,
# which is time's). Each costs some of every insert, that of users most: they come in no
# order. With the time in it as well it would cost a quarter of the whole insert more.
_INDEXES = """
CREATE INDEX IF NOT EXISTS audit_logs_time ON audit_logs (timestamp);
CREATE INDEX IF NOT EXISTS audit_logs_user ON audit_logs (user_id)
"""


class WrongVersion(Exception):
    """The database was written by a newer gateway."""


def open_database(path: str) -> sqlite3.Connection:
    """
    Open or create the database, readable by its owner only, with its tables as they
    should be.

    @raise WrongVersion: see there.
    @raise sqlite3.Error: when it can't be opened, read or written.
    """
    if not Path(path).exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
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
        for statement in _INDEXES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
