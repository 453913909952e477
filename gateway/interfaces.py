# -*- test-case-name: tests.contracts -*-
"""
The seams: what has, or will have, more than one implementation.

Each has one contract test class (tests/contracts) and a double in L{gateway.testing}.
"""

from __future__ import annotations

from typing import Any

from zope.interface import Interface


class StoreUnreachable(Exception):
    """The store of counters did not answer in time, so nothing was decided."""


class IBuckets(Interface):
    """Where counters live: in this process, or where many processes share them."""

    def take(rule: Any, key: str, now: int, cost: int = 1) -> Any:  # noqa: N805
        """
        Count one request of C{key} under C{rule}, as C{cost} requests.

        C{rule} is a L{gateway.admission.windows.Rule}. Counters are shared by all who pass the
        same rule; where processes share a store, by all whose rules have the same C{id}.
        C{now} is unix microseconds; a shared store may go by its own clock.

        @return: a L{gateway.admission.windows.Count}, or from a store that must be asked a
            L{gateway.admission.pending.Pending}, whose count is C{None} if nobody can say;
            never a guess.
        """

    def retain(rules: Any) -> None:  # noqa: N805
        """These are all the rules there are from now on: the others' counters may go."""

    def sweep(now: int) -> None:  # noqa: N805
        """Forget some of what has expired; called every second."""
