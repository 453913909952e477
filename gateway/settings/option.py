# -*- test-case-name: tests.settings.test_option -*-
"""
What an option is: declared once, with its type, default, bounds and the reason to change
it. The reader, the manual file and the documentation are made from that.

A type lets a text in as a value, or refuses it with a L{BadValue} that says what was
expected. The text itself may be a secret, so it is told only where C{secret} is not set.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class BadValue(Exception):
    """The text is no value of the option; C{str()} says what was expected."""


@dataclass(frozen=True, slots=True)
class Type:
    """
    @ivar parse: text to value; raises L{BadValue}.
    @ivar expected: what is expected, for the manual: C{"a time such as 250ms, 10s"}.
    """

    parse: Callable[[str], Any]
    expected: str


@dataclass(frozen=True, slots=True)
class Option:
    """
    One option of a section.

    @ivar default: as it would stand in the file.
    @ivar says: sentences for the manual: what it is for, and when to change it.
    @ivar danger: what may go wrong, boxed in the manual.
    @ivar example: a value that is not the default.
    @ivar per_route: whether a route may override it.
    @ivar secret: the value never appears in a message.
    @ivar restart: a reload does not change it.
    """

    name: str
    type: Type
    default: str
    says: str
    example: str = ""
    danger: str = ""
    per_route: bool = True
    secret: bool = False
    restart: bool = False

    @property
    def attribute(self) -> str:
        """Its name in the settings object."""
        return self.name.replace(".", "_")


#: A section as it is declared: what it is for, and its options in the manual's order.
Declared = tuple[str, tuple[Option, ...]]

#: Seconds.
DAY = 86400.0

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)")


def duration(least: float, most: float) -> Type:
    """Seconds as a float, in the file with their unit."""
    expected = f"a time from {spelled(least)} to {spelled(most)}, such as 250ms, 10s, 5m, 2h, 30d"

    def parse(text: str) -> float:
        match = _AMOUNT.fullmatch(text)
        unit = _SECONDS.get(match[2]) if match is not None else None
        if match is None or (unit is None and match[1] != "0"):
            raise BadValue(expected)
        value = float(match[1]) * (unit or 1.0)
        if not least <= value <= most:
            raise BadValue(expected)
        return value

    return Type(parse, expected)


def spelled(seconds: float) -> str:
    """A time as it stands in the file, in the largest unit that says it."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms"


def size(least: int, most: int) -> Type:
    """Bytes, in the file with or without a unit."""
    expected = f"a size from {_bytes(least)} to {_bytes(most)}, such as 8KiB, 10MiB"

    def parse(text: str) -> int:
        match = _AMOUNT.fullmatch(text)
        unit = _BYTES.get(match[2]) if match is not None else None
        if match is None or unit is None:
            raise BadValue(expected)
        value = float(match[1]) * unit
        if value != int(value) or not least <= value <= most:
            raise BadValue(expected)
        return int(value)

    return Type(parse, expected)


def _bytes(count: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if count >= _BYTES[unit] and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


def integer(least: int, most: int, also: dict[str, int] | None = None) -> Type:
    """A whole number, or one of some words that stand for one."""
    words = also or {}
    expected = f"a whole number from {least} to {most}" + "".join(f", or {word}" for word in words)

    def parse(text: str) -> int:
        if text in words:
            return words[text]
        if re.fullmatch(r"[0-9]{1,18}", text) is None or not least <= int(text) <= most:
            raise BadValue(expected)
        return int(text)

    return Type(parse, expected)


def choice(*words: str) -> Type:
    """One of some words."""
    expected = "one of " + ", ".join(words)

    def parse(text: str) -> str:
        if text not in words:
            raise BadValue(expected)
        return text

    return Type(parse, expected)


#: The mode in which a gate only says what it would refuse.
SHADOW = "shadow"


def mode(gate: str) -> Option:
    """Whether a gate is in earnest; C{gate}: what passes else."""
    return Option("mode", choice("enforce", SHADOW), "enforce",
                  f"shadow: {gate} passes, and is audited (detail: shadow:REASON) and counted as "
                  "what would have been refused.", SHADOW,
                  "In shadow mode nothing is refused here.")  # fmt: skip


def _yes_no(text: str) -> bool:
    value = {"yes": True, "no": False, "on": True, "off": False, "true": True, "false": False}.get(
        text.lower()
    )
    if value is None:
        raise BadValue("yes or no")
    return value


YES_NO = Type(_yes_no, "yes or no")


def _visible(text: str) -> str:
    if not text.isprintable():
        raise BadValue("text without control characters")
    return text


TEXT = Type(_visible, "text")


def words(text: str) -> tuple[str, ...]:
    """A list: commas, blanks or lines between its members."""
    return tuple(re.split(r"[,\s]+", text.strip(", \t\n"))) if text.strip(", \t\n") else ()


def _list(text: str) -> tuple[str, ...]:
    return tuple(_visible(word) for word in words(text))


LIST = Type(_list, "a list, commas or blanks between its members")


def several(known: tuple[str, ...], told: str, least: int = 1) -> Type:
    """At least so many of some words; C{told} is what the manual says of them."""

    def parse(text: str) -> tuple[str, ...]:
        found = words(text)
        if len(found) < least or any(word not in known for word in found):
            raise BadValue("one or more of " + ", ".join(known))
        return found

    return Type(parse, told)


_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _tokens(text: str) -> tuple[str, ...]:
    found = words(text)
    if any(_TOKEN.fullmatch(word) is None for word in found):
        raise BadValue("a list of names such as GET, X-Request-ID (RFC 9110 section 5.6.2)")
    return found


TOKENS = Type(_tokens, "a list of names")


def _field_name(text: str) -> str:
    if _TOKEN.fullmatch(text) is None:
        raise BadValue("the name of a header field")
    return text


FIELD_NAME = Type(_field_name, "the name of a header field")


def network_list(unix: bool = False) -> Type:
    """Networks or single addresses, IPv4 and IPv6."""
    expected = "networks such as 10.0.0.0/8, 2001:db8::/32" + (", or unix" if unix else "")

    def parse(text: str) -> tuple[str, ...]:
        found = words(text)
        for word in found:
            if unix and word == "unix":
                continue
            try:
                ipaddress.ip_network(word)
            except ValueError:
                try:
                    meant = ipaddress.ip_network(word, strict=False)
                except ValueError:
                    raise BadValue(expected) from None
                raise BadValue(f"{meant}: {word} has bits set behind its prefix") from None
        return found

    return Type(parse, expected)
