# -*- test-case-name: tests.test_shadow -*-
"""
Shadow mode: lets a request pass a gate that would have refused it, and notes that it would
have; refuses nothing, and notes nothing where a gate enforces.

A gate asks only once it has a refusal at hand, so that what passes anyway pays nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.verdicts import Refused

#: How often each (route, reason code) would have been refused. Routes and codes are the
#: gateway's own, so there are only so many.
Counts = dict[tuple[str, str], int]


class Shadow:
    """
    The gates of one route that are in shadow mode.

    @param gates: as the sections of their C{mode} are called.
    @param route: the prefix; empty where there is no route.
    @param counts: of all routes, in one place; counted up here.
    """

    __slots__ = ("_counts", "_route", "gates")

    def __init__(self, gates: Collection[str], route: str, counts: Counts) -> None:
        self.gates = frozenset(gates)
        self._route = route
        self._counts = counts

    def passes(self, gate: str, exchange: Exchange, refused: Refused) -> bool:
        """Whether a request passes that gate in spite of its refusal, which is noted then."""
        if gate not in self.gates:
            return False
        code = refused.reason.code
        more = refused.limit or refused.detail
        text = f"shadow:{code} {more}" if more else f"shadow:{code}"
        exchange.detail = joined(exchange.detail, text)
        key = (self._route, code)
        self._counts[key] = self._counts.get(key, 0) + 1
        return True


def joined(detail: str, more: str) -> str:
    """One more fact in the audit's C{detail}."""
    return f"{detail}, {more}" if detail else more
