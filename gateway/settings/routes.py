# -*- test-case-name: tests.settings.test_reader -*-
"""
The sections of routes: lets options of their own in, and overrides of those that other sections
let a route override; refuses prefixes that are not plain, taken, or there twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.settings import checks, headers, limits
from gateway.settings.folder import Folder
from gateway.settings.option import Option
from gateway.settings.require import CLAIM, made_when_met, read_requirements
from gateway.settings.route import ROUTE_OPTIONS, RouteSettings, canonical, loosened
from gateway.settings.sections import MADE, OVERRIDABLE, SECTIONS
from gateway.settings.text import Problems, Section, Value, nearest
from gateway.settings.values import Values

#: Paths that no route can have.
_OWN = ("/health", "/.well-known/gateway/jwks.json")


class Routes:
    """
    Reads routes.

    @param common: the values of the common sections, by name.
    @param made: the settings that were made of them.
    @param plans: the values of [ratelimit] as they hold for each plan.
    """

    def __init__(
        self, problems: Problems, directory: Folder, common: dict[str, dict[str, Any]],
        made: dict[str, Any], plans: dict[str, dict[str, Any]],
    ) -> None:  # fmt: skip
        self._problems = problems
        self._values = Values(problems)
        self._directory = directory
        self._common = common
        self._made = made
        self._plans = plans

    def read(self, section: Section) -> RouteSettings:
        """A route; what is wrong with it is told, and replaced by something that is not."""
        prefix = self._prefix(section)
        own = {option.name: option for option in ROUTE_OPTIONS}
        given = {
            option.attribute: self._values.of(option, section, section.options.get(option.name))
            for option in ROUTE_OPTIONS
        }
        given["assertion"] = given["assertion"] or self._common["assertion"]["default"]
        if "upstream" not in section.options:
            says = "missing; a route needs one, e.g. upstream = http://127.0.0.1:9001"
            self._problems.add(section.line, section.title, "upstream", says)
        overrides: dict[str, dict[str, Any]] = {}
        requirements = read_requirements(section, given, self._problems, self._values.of)
        for name, value in section.options.items():
            if name not in own and not made_when_met(name):
                self._override(section, name, value, overrides)
        sections = {name: self._made[name] for name in OVERRIDABLE}
        lines = checks.Lines(self._problems, {}, section)
        own_counter = limits.own_counter(overrides.get("ratelimit", {}))
        for name, changed in overrides.items():
            merged = {**self._common[name], **changed}
            if name == "ratelimit":
                merged = limits.merged(self._common[name], changed)
                checks.ratelimit(merged, lines, "ratelimit.")
                checks.cost(merged, {} if own_counter else self._plans, lines)
            elif name == "headers":
                headers.once(changed.get("claims", ()), section.line, section, self._problems)
                merged = headers.merged(self._common[name], changed)
            elif name == "upstream":
                checks.upstream(merged, lines, self._directory)
            sections[name] = MADE[name](**merged)
        if given["public"]:
            # Nobody says who calls: by address, and nothing to tell the service.
            sections["ratelimit"] = replace(sections["ratelimit"], key="ip")
            sections["headers"] = replace(sections["headers"], claims=())
        loose = loosened(sections, self._made, own_counter, given["public"])
        sections["upstream_settings"] = sections.pop("upstream")
        return RouteSettings(
            prefix=prefix,
            requirements=requirements,
            own_counter=own_counter,
            overrides=tuple(f"{name}.{option}" for name in overrides for option in overrides[name]),
            loosened=loose,
            **given,
            **sections,
        )

    def _prefix(self, section: Section) -> str:
        prefix = section.argument
        plain = prefix.rstrip("/") or "/"
        if not prefix:
            self._problems.add(section.line, "route", "", "expected [route /path]")
        elif not canonical(plain) or prefix.endswith("//"):
            says = "a prefix is whole plain segments, such as /api/v1/users"
            self._problems.add(section.line, section.title, "", says)
        elif plain in _OWN:
            says = f"{plain} is answered by the gateway"
            self._problems.add(section.line, section.title, "", says)
        return plain

    def _override(
        self, section: Section, name: str, value: Value, overrides: dict[str, dict[str, Any]]
    ) -> None:
        of, _, option_name = name.partition(".")
        if of == "ratelimit" and option_name.startswith(limits.COST):
            costs = self._values.cost(section, name, option_name, value)
            own = overrides.setdefault(of, {})
            own["costs"] = own.get("costs", ()) + costs
            return
        if of == "headers" and option_name.startswith(headers.CLAIM):
            claims = headers.claim(section, name, value, self._problems, self._values.of)
            own = overrides.setdefault(of, {})
            own["claims"] = own.get("claims", ()) + claims
            return
        known = {option.name: option for option in SECTIONS[of][1]} if of in SECTIONS else {}
        option = known.get(option_name)
        if option is not None and (of not in OVERRIDABLE or not option.per_route):
            says = f"[{of}] {option_name} holds for all; a route can't override it"
            self._problems.add(value.line, section.title, name, says)
        elif option is None:
            own_names = [each.name for each in ROUTE_OPTIONS]
            others = [
                f"{of}.{each.name}"
                for of in OVERRIDABLE
                for each in SECTIONS[of][1]
                if each.per_route
            ]
            hint = nearest(name, [*own_names, CLAIM + "NAME", *others]) or (
                f"; a route has {', '.join(own_names)}, and section.option"
            )
            self._problems.add(value.line, section.title, name, "unknown option" + hint)
        else:
            overrides.setdefault(of, {})[option.attribute] = self._values.of(
                Option(name, option.type, option.default, ""), section, value
            )


def twice(routes: list[Section], problems: Problems) -> None:
    """A prefix has one route."""
    seen: dict[str, int] = {}
    for section in routes:
        prefix = section.argument.rstrip("/") or "/"
        if prefix in seen:
            says = f"this prefix has a route already, in line {seen[prefix]}"
            problems.add(section.line, section.title, "", says)
        seen.setdefault(prefix, section.line)
