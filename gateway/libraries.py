# -*- test-case-name: tests.test_libraries -*-
"""
Lets the gateway start beside libraries without the holes it relies on their not having;
refuses older ones, whatever an installer has been talked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version

#: The oldest version of each, and what is wrong with those before. As in setup.cfg.
LEAST = {
    "Twisted": ((26, 4), "CVE-2026-42304"),
    "PyJWT": ((2, 13), "CVE-2026-48523, CVE-2026-48524"),
}


def outdated(version_of: Callable[[str], str] = version) -> list[str]:
    """
    A sentence for each library that is too old; none when all is well.

    @param version_of: the installed version of a distribution.
    """
    problems = []
    for name, (least, holes) in LEAST.items():
        found = version_of(name)
        numbers = tuple(int(part) for part in re.findall(r"\d+", found)[: len(least)])
        if numbers < least:
            wanted = ".".join(map(str, least))
            problems.append(f"{name} {found} is too old ({holes}); needed is {wanted} or newer")
    return problems
