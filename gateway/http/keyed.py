# -*- test-case-name: tests.http.test_keyed -*-
"""
Lets a head through that is known but for one secret line of a field that says who calls, as
L{RequestHeads} does for C{Authorization}; reads any other as L{RequestHeads} does.

Only heads that nothing else is known of come here, so that requests with a token pay nothing.
"""

from __future__ import annotations

from gateway.http.cuts import SLOTS
from gateway.http.fields import MAX_KEPT, FieldRules
from gateway.http.heads import Read, RequestHead, RequestHeads
from gateway.http.memo import Memo


class KeyedHeads(RequestHeads):
    """
    @param key_header: the field's name as most clients spell it, or they spell it in lower case;
        the rules withhold it.
    """

    def __init__(
        self, rules: FieldRules, key_header: str, max_request_line: int = 8192,
        max_fields: int = 100, memo_bytes: int = 4 << 20,
    ) -> None:  # fmt: skip
        super().__init__(rules, max_request_line, max_fields, memo_bytes)
        self._name = key_header.lower().encode("ascii")
        self._mark = b"\r\n%b: " % key_header.encode("ascii")
        self._lower = self._mark.lower()
        self._keyed: Memo[RequestHead] = Memo(memo_bytes)

    def _unknown(self, head: bytes) -> Read:
        before, found, behind = head.partition(self._mark)
        if not found:
            before, found, behind = head.partition(self._lower)
        value, end, behind = behind.partition(b"\r\n")
        # Without anything before it, it stands where the request line should.
        if not found or not before or not self._in_order(value):
            return super()._unknown(head)
        parts = self._cuts.cut(before + end + behind)
        if parts is None:
            return super()._unknown(head)
        rest, more = parts
        known = self._keyed.young.get(rest)
        if known is not None:
            return _with(known, self._name, value), (), more
        parsed = self._parse(head)
        if self._worth(parsed, rest) and self._again(rest):
            self._keyed.keep(rest, self._kept(rest), 4 * len(rest) + 1000)
        return parsed, parsed.authorization, b""

    def _worth(self, parsed: RequestHead, rest: bytes) -> bool:
        """Whether the rest, with no second credential in it, may stand for all that leave it."""
        return (
            parsed.plain
            and not parsed.length
            and not parsed.expect_continue
            and not parsed.authorization
            and len(rest) <= MAX_KEPT
            and rest.count(b"\r\n") + SLOTS + 1 < self._max_fields
            and self._cuts.whole(rest)
        )

    def _saw(self, name: bytes, lower: bytes) -> bool:
        patterns = self._cuts.patterns
        new_each_time = super()._saw(name, lower)
        if self._cuts.patterns is not patterns:
            self._keyed.clear()
        return new_each_time


def _with(known: RequestHead, name: bytes, value: bytes) -> RequestHead:
    """The head as it is with that line, for one request alone."""
    head = known.with_line(known.method, known.target)
    head.noted = [*known.noted, (name, value)]
    return head
