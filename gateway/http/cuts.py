# -*- test-case-name: tests.http.test_cuts -*-
"""
Lets a head be known by the rest of it although some of its lines are new each time: cookies,
trace contexts. Which lines these are is learned, within a bound that no client can stretch.

Only lines that are forwarded as they are and mean nothing to the message are ever cut out,
by the exact spelling of their names, and only where the field occurs once: so what is left
and what was cut out together say what the whole head says.
"""

from __future__ import annotations

from gateway.cores import CutsCore
from gateway.http.fields import MAX_KEPT, SECRET, VISIBLE

#: Names cut out at most: each costs every head a search.
SLOTS = 4

#: New lines of a name after which it is one that is new each time.
_ENOUGH = 64

#: Names counted at once, at most.
_NAMES = 256

#: Heads between two looks at whether a name still earns its search: by every 64th head.
_REVIEW = 4096


class Cuts(CutsCore):
    """
    The names whose lines are cut out.

    @ivar patterns: line end, name, colon and blank, as they stand in a head.
    """

    __slots__ = ("_counts",)

    patterns: tuple[bytes, ...]
    _hits: dict[bytes, int]
    _until_review: int

    def __init__(self) -> None:
        self.patterns = ()
        self._counts: dict[bytes, int] = {}
        self._hits = {}
        self._until_review = _REVIEW

    def saw(self, name: bytes, lower: bytes) -> bool:
        """
        A new line of an ordinary field was parsed; whether such lines are cut out by now.

        @param name: as spelt.
        """
        pattern = b"\r\n%b: " % name
        if pattern in self.patterns:
            return True
        counts = self._counts
        count = counts.get(name, 0) + 1
        if (count >= _ENOUGH or lower in SECRET) and len(self.patterns) < SLOTS:
            counts.pop(name, None)
            self.patterns += (pattern,)
            self._hits[pattern] = _REVIEW
            return True
        if len(counts) >= _NAMES:
            counts.clear()
        if len(name) <= MAX_KEPT:
            counts[name] = count
        return False

    def cut(self, head: bytes) -> tuple[bytes, bytes] | None:
        """
        What is left of a head, and the lines cut out, a CRLF behind each; C{None} for one
        that has to be looked at as a whole.
        """
        self._until_review -= 1
        if self._until_review < 0:
            self._review()
        taken = b""
        for pattern in self.patterns:
            before, found, behind = head.partition(pattern)
            if not found:
                continue
            # Not C{in}, which makes an exception first to find out that bytes are no number.
            if not before or behind.find(pattern) >= 0:
                return None
            value, end, behind = behind.partition(b"\r\n")
            if not value or value.translate(None, VISIBLE) or value.strip(b" \t") != value:
                return None
            self._hits[pattern] += 1
            taken += pattern + value
            head = before + end + behind
        return head, taken[2:] + b"\r\n" if taken else b""

    def whole(self, rest: bytes) -> bool:
        """Whether what is left of a head may stand for all heads that leave it."""
        lower = rest.lower() + b"\r\n"
        # Another spelling of a name that is cut out: the order of the two would be lost.
        # And Connection may name what is cut out.
        return not any(pattern[:-1].lower() in lower for pattern in self.patterns) and lower.count(
            b"\r\nconnection:"
        ) == lower.count(b"\r\nconnection: keep-alive\r\n")

    def _review(self) -> None:
        """Drop the names that few heads have by now."""
        self._until_review = _REVIEW
        self.patterns = tuple(
            pattern for pattern in self.patterns if self._hits[pattern] >= _REVIEW // 64
        )
        self._hits = dict.fromkeys(self.patterns, 0)
