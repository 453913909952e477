# -*- test-case-name: tests.audit.test_record -*-
"""
What a row of the audit log is: lets any bytes a client sends become exactly one row that
reads back the same; keeps shapes and secrets out.

On the hot path a row is one plain tuple, L{Row}; everything else happens in the writer's
thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain

from zope.interface import Interface

#: (began_at unix seconds, duration seconds, user or None, method, path, status, ip,
#: user agent or None, request id, route, upstream, reason, bytes in, bytes out,
#: detail)
Row = tuple[
    float, float, str | None, bytes, bytes, int, str, bytes | None, bytes, str, str, str, int, int,
    str,
]  # fmt: skip

#: The columns a row fills, in their order; the first eight are the original's.
COLUMNS = (
    "timestamp", "user_id", "method", "path", "status", "duration_ms", "ip", "user_agent",
    "request_id", "route", "upstream", "reason", "bytes_in", "bytes_out",
    "detail",
)  # fmt: skip

ANONYMOUS = "anonymous"

#: Characters of the user agent that are kept, as in the original.
_AGENT = 200


class IAuditLog(Interface):
    """Where rows go."""

    def append(row: Row) -> None:  # noqa: N805
        """Remember a row; returns at once and never fails."""

    def start() -> None:  # noqa: N805
        """Be ready. Raises when it can't be."""

    def stop(timeout: float | None = None) -> None:  # noqa: N805
        """Write all there is, waiting for at most so many seconds."""


def text(raw: bytes) -> str:
    """
    Bytes as text that SQLite takes and that tells the bytes again: UTF-8 where it is, the
    other bytes (and NUL, and lone surrogates) as C{\\xNN}, a backslash before these doubled.
    """
    decoded = raw.decode("utf-8", "backslashreplace")
    return decoded.replace("\x00", "\\x00") if "\x00" in decoded else decoded


def _name(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def iso(moment: float) -> str:
    """ISO 8601 in UTC with milliseconds: C{2026-01-02T03:04:05.678Z}, as JavaScript's."""
    return _iso(int(moment * 1000))


def _iso(milliseconds: int) -> str:
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=16)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def values(row: Row) -> tuple[str | int, ...]:
    """
    The row as column values. The timestamp is the request's beginning, as the original's
    users know it from C{duration_ms}.
    """
    (began, duration, user, method, path, status, ip, agent, request_id, route, upstream, reason,
     bytes_in, bytes_out, more) = row  # fmt: skip
    return (
        iso(began),
        ANONYMOUS if user is None else _name(user),
        text(method),
        text(path),
        status,
        int(duration * 1000),
        ip,
        text(agent)[:_AGENT] if agent else "unknown",
        text(request_id),
        route,
        upstream,
        reason,
        bytes_in,
        bytes_out,
        more,
    )


def flat(rows: list[Row]) -> list[str | int]:
    """
    The column values of many rows, one row behind the other, as L{values} gives them.

    Column by column, for the writer's thread holds up the reactor while it is in Python:
    a comprehension over one column costs a third of a call for each row.
    """
    (began, duration, users, methods, paths, statuses, ips, agents, ids, routes, upstreams,
     reasons, bytes_in, bytes_out, details) = zip(*rows, strict=True)  # fmt: skip
    try:
        # No path has a line break in it, so all of them decode at once where all are ASCII.
        plain = b"\n".join(paths).decode("ascii").split("\n")
        identifiers = b"\n".join(ids).decode("ascii").split("\n")
        names = [ANONYMOUS if user is None else user for user in users]
        "".join(names).encode("utf-8")
        if len(plain) != len(rows) or len(identifiers) != len(rows):
            raise ValueError("a line break")
    except ValueError:
        return [value for row in rows for value in values(row)]
    columns = (
        _times(began),
        names,
        [_METHODS.get(method) or text(method) for method in methods],
        [text(raw) for raw in paths] if "\x00" in "".join(plain) else plain,
        statuses,
        [int(took * 1000) for took in duration],
        ips,
        ["unknown" if not agent else text(agent)[:_AGENT] for agent in agents],
        identifiers,
        routes,
        upstreams,
        reasons,
        bytes_in,
        bytes_out,
        details,
    )
    return list(chain.from_iterable(zip(*columns, strict=True)))


def _times(moments: Iterable[float]) -> list[str]:
    """L{iso} of each: many requests begin in one millisecond, whose text is made once."""
    milliseconds = [int(moment * 1000) for moment in moments]
    texts = {each: _iso(each) for each in set(milliseconds)}
    return [texts[each] for each in milliseconds]


_METHODS = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}


def detail(**facts: object) -> str:
    """Facts of a note as JSON."""
    return json.dumps(facts, sort_keys=True)
