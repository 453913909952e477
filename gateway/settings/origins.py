# -*- test-case-name: tests.settings.test_origins -*-
"""
Where each value of a configuration comes from: lets the line of every option that stands
in the file be found again, and the default of every other; never tells a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.settings.option import Option
from gateway.settings.route import ROUTE_OPTIONS
from gateway.settings.sections import SECTIONS
from gateway.settings.text import Section

#: What a value is shown as that nobody should see.
HIDDEN = "(hidden)"
FROM_ENVIRONMENT = "(from the environment)"

#: A longer value is cut when it is told.
_MOST = 120

#: Names of options in sections that are declared elsewhere.
_SECRET = re.compile(r"secret(?!_file)|password|token(?!_file)")
_USER_INFO = re.compile(r"://[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Origin:
    """
    One setting that decided something.

    @ivar section: as in the file: C{ratelimit}, C{route /api}.
    @ivar option: as in the file; empty: the section as a whole.
    @ivar value: as in the file, or the default.
    @ivar line: 0 for a default.
    """

    section: str
    option: str
    value: str
    file: str
    line: int

    def __str__(self) -> str:
        name = self.option if "." in self.option else f"{self.section}.{self.option}"
        where = f"{self.file} line {self.line}" if self.line else "default"
        if self.section.partition(" ")[1]:
            name = f"[{self.section}]" + (f" {self.option}" if self.option else "")
        return f"{name} = {self.value} ({where})" if self.option else f"{name} ({where})"


def _option(section: str, name: str) -> Option | None:
    options = SECTIONS[section][1] if section in SECTIONS else ()
    return next((each for each in options if each.name == name), None)


def _title(section: Section) -> str:
    if section.name == "route":
        return f"route {section.argument.rstrip('/') or '/'}"
    return section.title


def _told(text: str) -> str:
    """On one line, not too long, and no password of a URL in it."""
    text = _USER_INFO.sub("://***@", ", ".join(text.split("\n")))
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."


class Origins:
    """
    @param file: its name, as it was given.
    @param sections: as they were read.
    """

    def __init__(self, file: str = "", sections: Iterable[Section] = ()) -> None:
        self._file = file
        self._found: dict[tuple[str, str], Origin] = {}
        for section in sections:
            title = _title(section)
            self._found.setdefault((title, ""), Origin(title, "", "", file, section.line))
            for name, value in section.options.items():
                of, _, short = name.rpartition(".")
                option = _option(section.name, name) or _option(of, short)
                secret = option.secret if option is not None else _SECRET.search(name) is not None
                text = HIDDEN if secret else FROM_ENVIRONMENT if value.hidden else _told(value.text)
                self._found.setdefault((title, name), Origin(title, name, text, file, value.line))

    def section(self, title: str) -> list[Origin]:
        """The section itself, if it stands in the file."""
        found = self._found.get((title, ""))
        return [found] if found is not None else []

    def given(self, title: str, name: str = "") -> bool:
        """Whether the option stands in that section of the file."""
        return (title, name) in self._found

    def of(self, section: str, name: str, route: str = "") -> Origin:
        """Where an option's value for a route comes from: the route, the section, the default."""
        found = self._found.get((f"route {route}", f"{section}.{name}")) if route else None
        found = found or self._found.get((section, name))
        if found is not None:
            return found
        option = _option(section, name)
        default = option.default if option is not None else ""
        return Origin(section, name, default or "none", self._file, 0)

    def route(self, prefix: str, name: str) -> Origin:
        """A route's own option."""
        found = self._found.get((f"route {prefix}", name))
        if found is not None:
            return found
        option = next((each for each in ROUTE_OPTIONS if each.name == name), None)
        default = option.default if option is not None else ""
        return Origin(f"route {prefix}", name, default or "none", self._file, 0)

    def starting(self, title: str, prefixes: Iterable[str]) -> list[Origin]:
        """The options of a section whose names begin so, in the file's order."""
        wanted = tuple(prefixes)
        return [
            origin
            for (of, name), origin in self._found.items()
            if of == title and name.startswith(wanted) and name
        ]

    def __len__(self) -> int:
        return len(self._found)

