# -*- test-case-name: tests.test_descriptors -*-
"""
File descriptors: raises their limit to what the system allows, and lets nobody believe
that a configuration fits in that does not.
"""

from __future__ import annotations

import contextlib
import resource

#: For listeners, the database, the log, the reactor, threads, and name look-ups.
SPARE = 64


def raise_limit() -> int:
    """
    As many descriptors as the system allows this process; how many these are, or
    C{RLIM_INFINITY} where nobody can say.
    """
    soft = resource.RLIM_INFINITY
    # A sandbox may forbid it; then the limit stays as the unit file has set it.
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def shortage(limit: int, clients: int, upstreams: int) -> str:
    """
    A warning with the numbers when they do not fit in, else the empty string.

    @param limit: descriptors; C{RLIM_INFINITY}: any number.
    @param clients: their connections at most.
    @param upstreams: connections to upstreams at most, all targets together.
    """
    needed = clients + upstreams + SPARE
    if limit == resource.RLIM_INFINITY or needed <= limit:
        return ""
    return (
        f"the limit of file descriptors is {limit}, but max_connections = {clients}, "
        f"{upstreams} connections to upstreams and {SPARE} others need {needed}: raise it "
        f"(LimitNOFILE= in the unit, ulimit -n), or lower max_connections or "
        f"[upstream] connections"
    )
