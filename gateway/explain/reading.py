# -*- test-case-name: tests.explain.test_reading -*-
"""
The parts of a gateway that remember, as somebody sees them who only looks: lets every
question through and keeps nothing of it, neither a count nor a token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zope.interface import implementer

from gateway.admission.inflight import Flying
from gateway.admission.windows import Count
from gateway.chain import Parts
from gateway.interfaces import IBuckets


@implementer(IBuckets)
class ReadingBuckets:
    """
    Counters that are looked at.

    @ivar asked: (rule, key, cost) of the last question; C{None}: nobody has asked.
    """

    def __init__(self, buckets: Any) -> None:
        self._buckets = buckets
        self.asked: tuple[Any, str, int] | None = None

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Any:
        """What counting would say, as of the counter's state now."""
        self.asked = rule, key, cost
        peek = getattr(self._buckets, "peek", None)
        return (peek or self._buckets.take)(rule, key, now, cost)

    def sweep(self, now: int) -> None:
        """Nothing is forgotten."""

    def retain(self, rules: Any) -> None:
        """Nothing is forgotten."""


class ReadingRefusals:
    """The limit on refused tokens, to which this one does not add."""

    def __init__(self, limit: Any) -> None:
        self._limit = limit
        self.count: Count | None = None

    def exceeded(self, key: str, now: int) -> Count | None:
        """See L{gateway.admission.refused.RefusedLimit.exceeded}."""
        self.count = found = self._limit.exceeded(key, now)
        return found  # type: ignore[no-any-return]

    def refused(self, key: str, now: int) -> None:
        """Not counted."""


class ReadingTokens:
    """The cache of verified tokens, to which this one does not add."""

    def __init__(self, tokens: Any) -> None:
        self._tokens = tokens
        self.remembered = False

    def identify(self, raw: bytes, rules: Any, now: float) -> Any:
        """See L{gateway.admission.token_cache.TokenCache.identify}."""
        self.remembered = raw in self._tokens
        return self._tokens.judge(raw, rules, now)

    def __contains__(self, raw: bytes) -> bool:
        return raw in self._tokens


class ReadingReplays:
    """The memory of proofs, in which this one uses none up."""

    def __init__(self, replays: Any) -> None:
        self._replays = replays
        self.rule = replays.rule

    def take(self, key: str, user: str, now: int) -> Any:
        """See L{gateway.admission.replays.Replays.peek}."""
        return self._replays.peek(key, user, now)


class Row:
    """An audit that keeps the last row to itself."""

    def __init__(self) -> None:
        self.row: tuple[Any, ...] | None = None

    def append(self, row: tuple[Any, ...]) -> None:
        """The row there would have been."""
        self.row = row


def reading(parts: Parts, now: float | None = None) -> Parts:
    """
    The same parts, read only.

    @param now: unix seconds, to look at another moment.
    """
    flying = Flying()
    flying.count = parts.flying.count
    refused: Any = ReadingRefusals(parts.refused) if parts.refused is not None else None
    tokens: Any = ReadingTokens(parts.tokens)
    audit: Any = Row()
    proofs = parts.proofs
    if proofs is not None and proofs.replays is not None:
        replays: Any = ReadingReplays(proofs.replays)
        proofs = replace(proofs, replays=replays)
    return replace(
        parts,
        audit=audit,
        tokens=tokens,
        buckets=ReadingBuckets(parts.buckets),
        refused=refused,
        flying=flying,
        proofs=proofs,
        now=parts.now if now is None else lambda: now,
    )
