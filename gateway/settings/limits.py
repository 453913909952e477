# -*- test-case-name: tests.settings.test_limits -*-
"""
How much may be asked for, as text: lets windows such as C{10/1s, 100/60s} and costs of
methods in; refuses windows that could never be felt and costs that could never pass.

The limits of [ratelimit], of a plan and of a route are read alike: each has the values of
[ratelimit], less those it gives itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway.settings.option import DAY, BadValue, Option, Type, duration, integer, spelled, words

MOST = 1_000_000_000

#: Windows of one limit: each costs its share of every count.
_WINDOWS = 8

Windows = tuple[tuple[int, float], ...]

WINDOW = duration(1, 30 * DAY)
LIMIT = integer(1, MOST)
_EXPECTED = f"up to {_WINDOWS} windows such as 10/1s, 100/60s, 5000/1d"


def _windows(text: str) -> Windows:
    found = []
    for word in words(text):
        limit, slash, window = word.partition("/")
        if not slash:
            raise BadValue(f"{_EXPECTED}, not {word}")
        found.append((LIMIT.parse(limit), WINDOW.parse(window)))
    found.sort(key=lambda each: (each[1], -each[0]))
    for at, (limit, window) in enumerate(found[:-1]):
        for other, longer in found[at + 1 :]:
            if other <= limit:
                short, long = f"{limit}/{spelled(window)}", f"{other}/{spelled(longer)}"
                raise BadValue(f"{_EXPECTED}; {short} can never be felt beside {long}")
    if len(found) > _WINDOWS:
        raise BadValue(_EXPECTED)
    return tuple(found)


WINDOWS = Type(_windows, _EXPECTED)

#: C{cost.POST}: the option is made when it is met.
COST = "cost."
COST_TYPE = integer(1, MOST)
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")

#: Options of a [plan NAME], as of [ratelimit].
PLAN_OPTIONS = ("limit", "window", "limits", "algorithm", "burst")
PLAN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Names a plan may not have: other limits are called so.
RESERVED = ("default", "refused", "key")


def cost_option(name: str) -> Option | None:
    """C{cost.POST} as an option; C{None} when that is no method's name."""
    return Option(name, COST_TYPE, "1", "") if _METHOD.fullmatch(name[len(COST) :]) else None


def merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """
    The values of [ratelimit] with a route's or a plan's own: a limit of its own takes the
    place of all inherited windows, costs of its own that of all inherited costs.
    """
    found = {**common, **own}
    if ("limit" in own or "window" in own) and "limits" not in own:
        found["limits"] = ()
    if "cost" in own or "costs" in own:
        found["cost"], found["costs"] = own.get("cost", 1), own.get("costs", ())
    return found


def own_counter(own: dict[str, Any]) -> bool:
    """Whether such options make a counter of its own: all do but a cost and the mode."""
    return any(name not in ("cost", "costs", "mode") for name in own)


def windows_of(values: Any) -> Windows:
    """The windows that hold: C{limits}, or the one of C{limit} and C{window}."""
    return values["limits"] or ((values["limit"], values["window"]),)


def most(values: dict[str, Any]) -> int:
    """The highest cost that can ever pass."""
    least = min(limit for limit, _ in windows_of(values))
    return min(least, values["burst"]) if values["algorithm"] == "gcra" else least


def costs(values: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The costs with their options' names."""
    yield "cost", values["cost"]
    for method, cost in values["costs"]:
        yield COST + method, cost


def told(windows: Windows) -> str:
    """For people: C{10 in 1 s, 100 in 60 s}."""
    return ", ".join(f"{limit} in {window:g} s" for limit, window in windows)
