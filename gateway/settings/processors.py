# -*- test-case-name: tests.workers.test_places -*-
"""Which processors this process may use."""

from __future__ import annotations

import os


def processors() -> list[int]:
    """Their numbers: of all the machine has, those the process is not kept from."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
