# -*- test-case-name: tests.settings.test_limits -*-
"""
Plans: lets C{[plan NAME]} sections in that say a limit for those whose token names them;
refuses two of one name, and plans that nobody can have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.settings import checks
from gateway.settings.limits import PLAN_NAME, PLAN_OPTIONS, RESERVED, merged
from gateway.settings.option import Option
from gateway.settings.sections import SECTIONS
from gateway.settings.text import Problems, Section, Value

Reads = Callable[[Option, Section | None, Value | None], Any]


def read_plans(
    sections: list[Section],
    common: dict[str, Any],
    lines: checks.Lines,
    problems: Problems,
    value_of: Reads,
) -> dict[str, dict[str, Any]]:
    """
    The values of [ratelimit] as they hold for each plan, by its name.

    @param common: the values of [ratelimit].
    """
    declared = {option.name: option for option in SECTIONS["ratelimit"][1]}
    found: dict[str, dict[str, Any]] = {}
    for section in sections:
        name = section.argument
        if PLAN_NAME.fullmatch(name) is None or name in RESERVED:
            says = "expected [plan NAME], of letters, digits, dots and dashes, not "
            problems.add(section.line, section.title, "", says + " or ".join(RESERVED))
        elif name in found:
            problems.add(section.line, section.title, "", "this plan stands there twice")
        own = {}
        for given, value in section.options.items():
            if given in PLAN_OPTIONS:
                own[given] = value_of(declared[given], section, value)
            else:
                problems.unknown(section, given, value, list(PLAN_OPTIONS))
        found[name] = merged(common, own)
        checks.limit(found[name], checks.Lines(problems, {"ratelimit": section}))
    if sections and not common["plan_claim"]:
        lines.say("ratelimit", "plan_claim", "missing; without it nobody has a [plan]")
    elif common["plan_claim"] and not sections:
        lines.say("ratelimit", "plan_claim", "there is no [plan NAME] for it to choose")
    return found
