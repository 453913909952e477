# -*- test-case-name: tests.http.test_bounds -*-
"""Bounds: numbers under names that the settings have, too, whatever else those say."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a bounded part is told; its fields say which numbers."""

    @classmethod
    def of(cls, values: object) -> Self:
        """Those of an object that has all of them as attributes."""
        return cls(**{each.name: getattr(values, each.name) for each in fields(cls)})
