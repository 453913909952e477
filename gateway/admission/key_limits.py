# -*- test-case-name: tests.admission.test_apikeys -*-
"""
Limits that a credential brings along: makes of its windows a rule to count by, the same one
whenever the same is asked. Lets in windows that have been read; refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.admission.windows import Rule

#: (limit, seconds) of each window, the shortest first.
Windows = tuple[tuple[int, float], ...]

#: Whose limit it is, in refusals and counters' names; no plan may be called so.
OWNER = "key"


class KeyLimits:
    """
    Compared by identity; counters hang on the rules in it.

    @param make: a rule of such windows.
    """

    def __init__(self, make: Callable[[Windows], Rule]) -> None:
        self._make = make
        self._rules: dict[Windows, Rule] = {}

    def of(self, windows: Windows) -> Rule:
        """The one rule of these."""
        rule = self._rules.get(windows)
        if rule is None:
            rule = self._rules[windows] = self._make(windows)
        return rule

    def keep(self, windows: set[Windows]) -> None:
        """Only these are asked for any more."""
        self._rules = {each: rule for each, rule in self._rules.items() if each in windows}

    def all(self) -> set[Rule]:
        """Every rule that has been asked for."""
        return set(self._rules.values())
