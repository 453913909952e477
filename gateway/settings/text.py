# -*- test-case-name: tests.settings.test_text -*-
"""
The INI file as text: lets lines in that are sections, options, continuations or
comments; every other line becomes a problem with its number.

A comment begins a line (C{#} or C{;}), or follows a blank and C{;}. An indented line
continues the value above. C{${NAME}} is the environment's, and what it stands for never
appears in a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

_HEADER = re.compile(r"\[\s*([^\]]*?)\s*\]")
_OPTION = re.compile(r"([A-Za-z_][A-Za-z0-9_.:/-]*)\s*=\s*(.*)")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Bytes; nobody writes a longer one by hand.
MAX_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong.

    @ivar line: its number in the file, 0 for the file as a whole.
    @ivar section: its name, or empty.
    @ivar option: its name, or empty.
    @ivar says: what was found and what was expected.
    """

    file: str
    line: int
    section: str
    option: str
    says: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        section = f" [{self.section}]" if self.section else ""
        option = f" {self.option}" if self.option else ""
        what = f"{section}{option}:" if section or option else ""
        return f"{where}:{what} {self.says}"


class SettingsError(Exception):
    """
    The file can't be used.

    @ivar problems: all of them.
    """

    def __init__(self, name: str, problems: list[Problem]) -> None:
        super().__init__(name, problems)
        self.name = name
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.name}: {count} problem{'' if count == 1 else 's'}; not starting."
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


@dataclass(slots=True)
class Value:
    """
    An option's text.

    @ivar hidden: some of it came from the environment.
    @ivar broken: a problem has been told already.
    """

    text: str
    line: int
    hidden: bool = False
    broken: bool = False

    @property
    def shown(self) -> str:
        """For a message."""
        if self.hidden:
            return "the value from the environment"
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return '"' + text.encode("unicode_escape").decode("ascii") + '"'


@dataclass(slots=True)
class Section:
    """A section's options; C{argument} is what stands behind its name: C{[route /api]}."""

    name: str
    argument: str
    line: int
    options: dict[str, Value] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As in the file."""
        return f"{self.name} {self.argument}" if self.argument else self.name


class Problems:
    """Collects them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Problem] = []

    def add(self, line: int, section: str, option: str, says: str) -> None:
        """One more."""
        self.found.append(Problem(self.file, line, section, option, says))

    def unknown(self, section: Section, option: str, value: Value, known: list[str]) -> None:
        """An option that the section does not have."""
        hint = nearest(option, known) or "; known are " + ", ".join(known)
        self.add(value.line, section.title, option, "unknown option" + hint)


def nearest(name: str, known: list[str]) -> str:
    """C{; did you mean "x"?}, or nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def sections_of(text: str, environ: Mapping[str, str], problems: Problems) -> list[Section]:
    """The sections of a file, each option once."""
    found: list[Section] = []
    current: Section | None = None
    last: Value | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = _uncommented(raw)
        if not line.strip():
            if not raw.strip():
                last = None
            continue
        if line[0] in " \t" and last is not None:
            last.text += "\n" + line.strip()
            continue
        line, last = line.strip(), None
        header = _HEADER.fullmatch(line)
        if header is not None:
            name, _, argument = header[1].partition(" ")
            current = Section(name, argument.strip(), number)
            found.append(current)
            continue
        match = _OPTION.fullmatch(line)
        if match is None:
            problems.add(number, current.title if current else "", "",
                         "expected [section], or option = value")  # fmt: skip
        elif current is None:
            problems.add(number, "", match[1], "stands before the first [section]")
        elif match[1] in current.options:
            problems.add(number, current.title, match[1],
                         f"repeated; first in line {current.options[match[1]].line}")  # fmt: skip
        else:
            last = current.options[match[1]] = Value(match[2], number)
    for section in found:
        for option, value in section.options.items():
            _substitute(value, environ, section, option, problems)
    return found


def _uncommented(line: str) -> str:
    if line.lstrip()[:1] in ("#", ";"):
        return ""
    at = re.search(r"\s;", line)
    return (line[: at.start()] if at else line).rstrip()


def _substitute(
    value: Value, environ: Mapping[str, str], section: Section, option: str, problems: Problems
) -> None:
    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if _NAME.fullmatch(name) is None:
            value.broken = True
            problems.add(value.line, section.title, option, "expected ${NAME}, a variable's name")
            return ""
        if name not in environ:
            value.broken = True
            problems.add(
                value.line, section.title, option, f"${{{name}}} is not set in the environment"
            )
            return ""
        value.hidden = True
        return environ[name]

    value.text = _VARIABLE.sub(fill, value.text)
