# -*- test-case-name: tests.audit.test_query -*-
"""
Reads the audit log while the gateway writes it; lets nothing out that would move a
terminal's cursor.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

_SHOWN = (
    "timestamp",
    "user_id",
    "method",
    "path",
    "status",
    "duration_ms",
    "ip",
    "reason",
    "route",
    "detail",
)


def last_rows(
    database: str,
    count: int,
    *,
    user: str | None = None,
    status: int | None = None,
    since: str | None = None,
) -> list[dict[str, Any]]:
    """
    The newest rows, the newest last.

    @param since: an ISO 8601 moment; rows from then on.
    @raise sqlite3.Error: when there is no such database or table.
    """
    wanted = [
        (clause, value)
        for clause, value in (
            ("user_id = ?", user), ("status = ?", status), ("timestamp >= ?", since)
        )
        if value is not None
    ]  # fmt: skip
    where = " WHERE " + " AND ".join(clause for clause, _ in wanted) if wanted else ""
    source = "audit_logs" if user is None else "audit_by_user"
    uri = f"file:{quote(str(Path(database).absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=5.0)
    try:
        connection.row_factory = sqlite3.Row
        found = connection.execute(
            f"SELECT * FROM {source}{where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - constants
            (*(value for _, value in wanted), count),
        ).fetchall()
    finally:
        connection.close()
    return [dict(row) for row in reversed(found)]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as columns of text."""
    cells = [list(_SHOWN)] + [[_safe(row.get(name)) for name in _SHOWN] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(_SHOWN))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _safe(value: object) -> str:
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
