# -*- test-case-name: tests.contracts.audit_log -*-
"""An audit log in memory, for tests of those who write one."""

from __future__ import annotations

from zope.interface import implementer

from gateway.audit.record import IAuditLog, Row


@implementer(IAuditLog)
class MemoryAuditLog:
    """
    Keeps every row.

    @ivar rows: those appended so far.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def append(self, row: Row) -> None:
        """See L{IAuditLog.append}."""
        self.rows.append(row)

    def start(self) -> None:
        """Always ready."""

    def stop(self, timeout: float | None = None) -> None:
        """Nothing waits."""
