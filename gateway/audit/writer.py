# -*- test-case-name: tests.audit.test_writer -*-
"""
Writes the audit log from a thread of its own: lets every row in while there is room;
beyond that rows are counted as lost, and the loss is recorded. Requests never wait.

When the queue is over half full, refusals of strangers are counted by address and reason
instead of rowed, so that a flood of them can't crowd out users' rows.

A flush is one transaction of multi-row INSERTs: C{executemany} would hand the GIL back
and forth for each row and make the reactor stutter. A flush that fails is rolled back and
its rows stay first in the queue, so none is written twice or half.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

from zope.interface import implementer

from gateway.audit.record import COLUMNS, IAuditLog, Row, detail, flat, iso
from gateway.audit.schema import delete_before, index_users, open_database
from gateway.cores import COMPILED, AuditCore

#: Different (address, reason) pairs counted; the others are counted together.
STRANGERS = 10_000

#: Seconds between two tries while the database fails: doubled each time, up to the last.
_FIRST_WAIT, _LAST_WAIT = 0.25, 5.0

#: Seconds for which a lock of the database is waited for: of somebody else's tool, of a worker.
_LOCKED, _TURNS = 1.0, 3.0

#: Rows of an overdue day deleted at once, and seconds between two such deletions.
_SLICE, _REST = 1000, 1.0

#: Batches in one transaction, and seconds between two looks at the index of users.
_BATCHES, _INDEX_EVERY = 16, 1.0

#: How much the writer's thread gives way to the reactor's on a busy processor: at 5 it still
#: gets a quarter of it, which is more than it ever needs.
_NICE = 5

_COLUMNS = ", ".join(COLUMNS)


@implementer(IAuditLog)
class AuditWriter(AuditCore):
    """
    @param batch: rows in one INSERT.
    @param flush_interval: seconds between two looks at the queue.
    @param queue: rows held at most.
    @param retention: days rows are kept; 0: for ever.
    @param worker: which worker writes, told in each row; 0: there is only one.
    @param note: told (level, sentence) once as something breaks, and once as it is well
        again; called from the writer's thread.
    @ivar rows_written, rows_lost, strangers_counted: since the start.
    """

    def __init__(
        self,
        database: str,
        batch: int = 500,
        flush_interval: float = 0.25,
        queue: int = 100_000,
        retention: int = 0,
        note: Callable[[str, str], object] = lambda _level, _text: None,
        worker: int = 0,
    ) -> None:
        self._path = database
        self._batch = batch
        self._interval = flush_interval
        self._room = queue
        self._half = queue // 2
        self._retention = retention
        self._note = note
        # Another worker's turn is nothing to complain of.
        self._patience = _TURNS if worker else _LOCKED
        # The same in all rows of this process: text of the statement instead of a value a row.
        self._places = f"({'?, ' * len(COLUMNS)}{worker:d})"
        self._rows: list[Row] = []
        self._strangers: dict[tuple[str, str], int] = {}
        self._lost = 0
        self._counting = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._moved: tuple[str, sqlite3.Connection] | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._turns = threading.Condition()
        self._turn = 0
        self._broken = ""
        self._next_deletion = 0.0
        self._next_index = 0.0
        self._indexed = -1
        self.rows_written = 0
        self.rows_lost = 0
        self.strangers_counted = 0

    # -- the reactor's thread

    def start(self) -> None:
        """Open the database here, where an error is heard, then start the thread."""
        self._connection = open_database(self._path, self._patience)
        self._bound_batch(self._connection)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def reconfigure(
        self,
        batch: int,
        flush_interval: float,
        queue: int,
        retention: int,
        moved: tuple[str, sqlite3.Connection] | None = None,
    ) -> None:
        """
        Go on with other numbers, see the class.

        @param moved: another database and its open connection: rows that wait still go to
            the old one if that can be written, all later ones here.
        """
        self._batch = batch
        self._interval = flush_interval
        self._room = queue
        self._half = queue // 2
        self._retention = retention
        self._next_deletion = 0.0
        connection = moved[1] if moved is not None else self._connection
        if connection is not None:
            self._bound_batch(connection)
        if moved is not None:
            self._next_index = 0.0
            with self._counting:
                never, self._moved = self._moved, moved
            if never is not None:
                never[1].close()
        self._wake.set()

    def _bound_batch(self, connection: sqlite3.Connection) -> None:
        most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self._batch = max(1, min(self._batch, most // len(COLUMNS)))

    def append(self, row: Row) -> None:
        """See L{IAuditLog.append}: one append, while the queue is less than half full."""
        rows = self._rows
        if len(rows) < self._half:
            rows.append(row)
        else:
            self._crowded(row)

    if COMPILED:
        append = AuditCore.append  # type: ignore[attr-defined]

    def _crowded(self, row: Row) -> None:
        with self._counting:
            if row[2] is None and row[11]:
                key = (row[6], row[11])
                if key not in self._strangers and len(self._strangers) >= STRANGERS:
                    key = ("others", row[11])
                self._strangers[key] = self._strangers.get(key, 0) + 1
                self.strangers_counted += 1
            elif len(self._rows) < self._room:
                self._rows.append(row)
            else:
                self._lost += 1
                self.rows_lost += 1

    def stop(self, timeout: float | None = None) -> None:
        """Write what there is and end the thread; gives up after C{timeout} seconds."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping = True
        self._wake.set()
        thread.join(timeout)
        if thread.is_alive():
            self._note("error", f"audit: {len(self._rows)} rows could not be written in time")

    def queue_length(self) -> int:
        """Rows waiting."""
        return len(self._rows)

    def seen(self) -> int:
        """Requests since the start, whatever became of their rows."""
        return self.rows_written + len(self._rows) + self.rows_lost + self.strangers_counted

    def flushed(self, timeout: float) -> bool:
        """Wait until all that has been appended was written, or tried; for tests and tools."""
        with self._turns:
            # The turn under way may have begun before the last append: wait for two.
            wanted = self._turn + 2
            deadline = time.monotonic() + timeout
            while self._turn < wanted:
                self._wake.set()
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._turns.wait(min(left, 0.05))
        return not self._rows

    # -- the writer's thread

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            # On Linux a thread has a niceness of its own.
            # It has the process's own by now, to which it is added: Nice=-10 in a unit must
            # not leave the writer a two-hundredth of the processor.
            nice = os.getpriority(os.PRIO_PROCESS, 0) + _NICE
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(nice, 19))
        wait = self._interval
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            stopping = self._stopping
            done = self._flush()
            if self._moved is not None:
                self._move()
                done = self._flush()
            if done:
                wait = self._interval
            elif wait < _FIRST_WAIT:
                wait = _FIRST_WAIT
            else:
                wait = min(2 * wait, _LAST_WAIT)
            with self._turns:
                self._turn += 1
                self._turns.notify_all()
            if stopping and (done or self._give_up()):
                break
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _move(self) -> None:
        with self._counting:
            moved, self._moved = self._moved, None
        old = self._connection
        if moved is not None:
            self._path, self._connection = moved
            self._indexed = -1
            if old is not None:
                old.close()

    def _give_up(self) -> bool:
        """The last flush failed: a locked database may be free in a moment, a full disk not."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            if self._flush():
                return True
            self._wake.wait(0.1)
        self.rows_lost += len(self._rows)
        self._note("error", f"audit: {len(self._rows)} rows lost at the stop: {self._broken}")
        return True

    def _flush(self) -> bool:
        """Write all there is, batch by batch; whether that worked."""
        try:
            while self._rows:
                self._write()
            self._write_notes()
            self._index_users()
            self._delete_old()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return False
        if self._broken:
            self._broken = ""
            self._note("info", "audit: the database is written again")
        return True

    def _write(self) -> None:
        # The reactor appends to the same list meanwhile; a slice, and the deletion of a
        # slice from the front, are each one step under the GIL.
        rows = self._rows
        taken = rows[: self._batch * _BATCHES]
        with self._transaction() as connection:
            for at in range(0, len(taken), self._batch):
                part = taken[at : at + self._batch]
                connection.execute(
                    f"INSERT INTO audit_logs ({_COLUMNS}, worker) VALUES "  # noqa: S608 - constants
                    + ",".join([self._places] * len(part)),
                    flat(part),
                )
        del rows[: len(taken)]
        self.rows_written += len(taken)

    def _write_notes(self) -> None:
        if not self._strangers and not self._lost:
            return
        with self._counting:
            strangers, self._strangers = self._strangers, {}
            lost, self._lost = self._lost, 0
        notes = [
            (iso(time.time()), "strangers", count, detail(ip=ip, reason=reason))
            for (ip, reason), count in strangers.items()
        ]
        if lost:
            notes.append((iso(time.time()), "lost", lost, detail(why=self._broken or "full queue")))
        try:
            with self._transaction() as connection:
                connection.executemany(
                    "INSERT INTO audit_notes (timestamp, kind, count, detail) VALUES (?, ?, ?, ?)",
                    notes,
                )
        except BaseException:
            with self._counting:
                self._lost += lost
                for key, count in strangers.items():
                    self._strangers[key] = self._strangers.get(key, 0) + count
            raise
        if lost:
            self._note("error", f"audit: {lost} rows were lost: the queue was full")

    def _delete_old(self) -> None:
        """Some of the rows older than the retention; the next ones at a later turn."""
        now = time.monotonic()
        if not self._retention or now < self._next_deletion:
            return
        before = iso(time.time() - self._retention * 86400)
        with self._transaction() as connection:
            deleted = delete_before(connection, before, _SLICE)
        self._next_deletion = now + (_REST if deleted else 60.0)

    def _index_users(self) -> None:
        now = time.monotonic()
        if self._indexed == self.rows_written or (now < self._next_index and not self._stopping):
            return
        written = self.rows_written
        with self._transaction() as connection:
            if index_users(connection):
                self._indexed = written
        self._next_index = now + _INDEX_EVERY

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self._path, self._patience)
        return self._connection

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Broken beyond that: closing it rolls back, the next try opens it anew.
            self._connection = None
            connection.close()

    def _failed(self, error: Exception) -> None:
        if not self._broken:
            self._note("error", f"audit: the database can't be written, rows wait: {error}")
        self._broken = str(error)
