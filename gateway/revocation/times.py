# -*- test-case-name: tests.revocation.test_command -*-
"""Moments as people write them: lets unix seconds and ISO 8601 in; refuses anything else."""

from __future__ import annotations

import math
import time
from datetime import datetime


def moment(value: float) -> str:
    """Unix seconds for people."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
    except (ValueError, OverflowError, OSError):
        return str(value)


def parse_moment(text: str) -> float:
    """
    Unix seconds, or C{2026-01-31T12:00:00Z}; local time without a zone.

    @raise ValueError: for anything else.
    """
    try:
        found = float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise ValueError(
                f"{text}: expected unix seconds, or 2026-01-31T12:00:00Z"
            ) from None
    if not math.isfinite(found):
        raise ValueError(f"{text}: expected unix seconds, or 2026-01-31T12:00:00Z")
    return found
