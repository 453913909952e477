# -*- test-case-name: tests.http.test_memo -*-
"""
Lets what was worked out once be found again, within a bound in bytes; forgets the rest.

Two generations instead of least-recently-used book-keeping: a look-up that hits the
young generation is one dictionary look-up. When the young one is full, it becomes the
old one, and what nobody has asked for since is gone.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.cores import MemoCore

T = TypeVar("T")

#: What an entry costs beside its bytes: two objects' headers, a tuple, a dictionary's slot.
OVERHEAD = 250


class Memo(MemoCore, Generic[T]):
    """
    A bounded map from bytes.

    @param size: bytes both generations may take together, overhead included.
    @ivar young: the young generation; callers look here first, by themselves.
    """

    __slots__ = ("_half", "_old", "_used")

    young: dict[bytes, T]

    def __init__(self, size: int) -> None:
        self.young = {}
        self._old: dict[bytes, T] = {}
        self._half = size // 2
        self._used = 0

    def recall(self, key: bytes) -> T | None:
        """Look in the old generation; what is found there is young again."""
        value = self._old.get(key)
        if value is not None:
            self.keep(key, value)
        return value

    def keep(self, key: bytes, value: T, cost: int | None = None) -> None:
        """
        Remember.

        @param cost: bytes of key and value; by default twice the key's.
        """
        self._used += OVERHEAD + (2 * len(key) if cost is None else cost)
        if self._used > self._half:
            self._old = self.young
            self.young = {}
            self._used = OVERHEAD + (2 * len(key) if cost is None else cost)
        self.young[key] = value

    def clear(self) -> None:
        """Forget everything."""
        self.young, self._old, self._used = {}, {}, 0

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
