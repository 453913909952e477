# -*- test-case-name: tests.settings.test_reader -*-
"""
From text to values: lets in what is a value of its option; all else becomes a problem, and the
option has its default while the others are looked for.
"""

from __future__ import annotations

from typing import Any

from gateway.settings import headers, limits
from gateway.settings.option import BadValue, Option
from gateway.settings.sections import SECTIONS
from gateway.settings.text import Problems, Section, Value


class Values:
    """
    Reads options.

    @param problems: where they are told.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def common(self, name: str, section: Section | None) -> dict[str, Any]:
        """A common section's, by their attributes; C{section}: where it stands in the file."""
        declared = {option.name: option for option in SECTIONS[name][1]}
        found: dict[str, Any] = {"costs": ()} if name == "ratelimit" else {}
        if name == "headers":
            found["claims"] = ()
        for given, value in section.options.items() if section is not None else ():
            assert section is not None
            if name == "ratelimit" and given.startswith(limits.COST):
                found["costs"] += self.cost(section, given, given, value)
            elif name == "headers" and given.startswith(headers.CLAIM):
                found["claims"] += headers.claim(section, given, value, self._problems, self.of)
            elif given not in declared:
                self._problems.unknown(section, given, value, list(declared))
        if name == "headers" and section is not None:
            headers.once(found["claims"], section.line, section, self._problems)
            found["claims"] = headers.merged({"claims": ()}, found)["claims"]
        for option in declared.values():
            value_of = section.options.get(option.name) if section else None
            found[option.attribute] = self.of(option, section, value_of)
        return found

    def cost(
        self, section: Section, given: str, name: str, value: Value
    ) -> tuple[tuple[str, int], ...]:
        """C{cost.POST}; C{given} is the option as it stands in the file."""
        option = limits.cost_option(name)
        if option is None:
            says = "expected cost.METHOD with the method in capitals, such as cost.POST"
            self._problems.add(value.line, section.title, given, says)
            return ()
        option = Option(given, option.type, option.default, "")
        return ((name[len(limits.COST) :], self.of(option, section, value)),)

    def of(self, option: Option, section: Section | None, value: Value | None) -> Any:
        """The one of an option: its default where it is not given, or wrong."""
        if value is None or value.broken:
            return option.type.parse(option.default)
        try:
            return option.type.parse(value.text)
        except BadValue as expected:
            shown = "the value" if option.secret else value.shown
            assert section is not None
            says = f"{shown} is not what was expected: {expected}"
            self._problems.add(value.line, section.title, option.name, says)
            return option.type.parse(option.default)
