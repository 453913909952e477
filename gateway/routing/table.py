# -*- test-case-name: tests.routing.test_table -*-
"""
The table of routes: lets a path through to the route with the longest prefix of whole
segments; a path without one is refused with 404 by its caller.

C{/api} takes C{/api} and C{/api/x}, never C{/apix}, C{/api..} or C{/api;x}. (The
original's C{startsWith} sent C{/api/v1/users.attacker.example/} to
C{users-service.internal.attacker.example}.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class RouteTable(Generic[T]):
    """
    @param prefixes: prefix without a final slash (C{/} itself excepted) -> what is there.
    """

    __slots__ = ("_depth", "_prefixes", "_root")

    def __init__(self, prefixes: Mapping[str, T]) -> None:
        self._prefixes = {
            prefix.encode("ascii"): value for prefix, value in prefixes.items() if prefix != "/"
        }
        self._root = prefixes.get("/")
        self._depth = max((prefix.count(b"/") for prefix in self._prefixes), default=0)

    def find(self, path: bytes) -> tuple[T, bytes] | None:
        """
        The route, and the rest of the path behind its prefix (C{/} when that is empty).

        Costs one look-up for each segment of the path, and no more of these than the
        deepest prefix has.
        """
        at = _nth_slash(path, self._depth)
        while at > 0:
            value = self._prefixes.get(path[:at])
            if value is not None:
                return value, path[at:] or b"/"
            at = path.rfind(b"/", 0, at)
        if self._root is not None and path.startswith(b"/"):
            return self._root, path
        return None

    def leads(self, path: bytes, value: T) -> bool:
        """
        Whether the path leads to C{value}.

        What a careless service makes of a path (L{gateway.routing.paths.carelessly}) must
        lead where the path itself does, or the one route's rules would be dodged by way
        of another: C{/admin;x} and C{/%2561dmin} through C{/}, C{/v1%3Aadmin} past C{/v1:admin}.
        """
        found = self.find(path)
        return found is not None and found[0] is value


def _nth_slash(path: bytes, depth: int) -> int:
    """Where the segment behind the first C{depth} ones begins, or the path's end."""
    at = 0
    for _ in range(depth):
        at = path.find(b"/", at + 1)
        if at < 0:
            return len(path)
    return at
