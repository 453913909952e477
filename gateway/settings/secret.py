# -*- test-case-name: tests.settings.test_reader -*-
"""A secret of the file: lets nobody see it who does not ask for it."""

from __future__ import annotations

from hmac import compare_digest


class Secret:
    """Bytes that never show themselves."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "<secret>"
