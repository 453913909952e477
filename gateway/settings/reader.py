# -*- test-case-name: tests.settings.test_reader -*-
"""
Lets a configuration in that is right in every line; refuses any other with all its
problems at once (L{SettingsError}).

Files are read here and nowhere else: the INI file itself, secrets and keys.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.settings import checks, headers, proof_checks
from gateway.settings.folder import Folder
from gateway.settings.issuers import (
    IssuerSettings,
    check_issuers,
    check_route,
    introspection,
    read_issuers,
)
from gateway.settings.origins import Origins
from gateway.settings.plans import read_plans
from gateway.settings.processors import processors as usable
from gateway.settings.ratelimit import RateLimitSettings
from gateway.settings.route import not_enforced
from gateway.settings.routes import Routes, twice
from gateway.settings.sections import ASKED, LOCAL, MADE, SECTIONS
from gateway.settings.text import (
    MAX_FILE,
    Problem,
    Problems,
    Section,
    SettingsError,
    nearest,
    sections_of,
)
from gateway.settings.tokens import IntrospectionSettings
from gateway.settings.values import Values
from gateway.settings.whole import Settings


def read(path: str, environ: Mapping[str, str]) -> Settings:
    """
    Read a file.

    @raise SettingsError: with every problem in it.
    """
    return parse(load(path), environ, name=path, directory=str(Path(path).absolute().parent))


def load(path: str) -> str:
    """
    The text of a file.

    @raise SettingsError: when there is none to be had.
    """

    def unreadable(says: str) -> SettingsError:
        return SettingsError(path, [Problem(path, 0, "", "", says)])

    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise unreadable(f"can't be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise unreadable(f"is longer than {MAX_FILE} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(path, [Problem(path, line, "", "", "is not UTF-8")]) from None


def parse(
    text: str,
    environ: Mapping[str, str],
    *,
    name: str = "gateway.ini",
    directory: str | Folder = ".",
    processors: int | None = None,
) -> Settings:
    """
    The same from text; relative key files are in C{directory}.

    @param processors: how many C{workers = auto} means; by default those this process may
        use.
    @raise SettingsError: with every problem in it.
    """
    folder = Folder(directory) if isinstance(directory, str) else directory
    reader = _Reader(Problems(name), environ, folder, processors or len(usable()))
    settings = reader.read(text)
    if reader.problems.found or settings is None:
        raise SettingsError(name, sorted(reader.problems.found, key=lambda each: each.line))
    return replace(settings, origins=reader.origins)


class _Reader:
    def __init__(
        self, problems: Problems, environ: Mapping[str, str], directory: Folder, processors: int
    ) -> None:
        self._processors = processors
        self.problems = problems
        self._values = Values(problems)
        self._environ = environ
        self._directory = directory
        self._warnings: list[str] = []
        self.origins = Origins()

    def read(self, text: str) -> Settings | None:
        if "\x00" in text:
            line = text.count("\n", 0, text.index("\x00")) + 1
            self.problems.add(line, "", "", "holds a NUL character")
            return None
        common: dict[str, Section] = {}
        routes: list[Section] = []
        plans: list[Section] = []
        issuers: list[Section] = []
        sections = sections_of(text.replace("\r\n", "\n"), self._environ, self.problems)
        self.origins = Origins(self.problems.file, sections)
        for section in sections:
            if section.name == "route":
                routes.append(section)
            elif section.name == "plan":
                plans.append(section)
            elif section.name == "issuer":
                issuers.append(section)
            elif section.argument or section.name not in SECTIONS:
                self._unknown_section(section)
            elif section.name in common:
                first = common[section.name].line
                self.problems.add(
                    section.line, section.name, "", f"repeated; first in line {first}"
                )
            else:
                common[section.name] = section
        return self._settings(common, plans, issuers, routes)

    def _unknown_section(self, section: Section) -> None:
        known = [*SECTIONS, "issuer", "plan", "route"]
        hint = nearest(section.name, known) or "; known are " + ", ".join(
            [*SECTIONS, "issuer NAME", "plan NAME", "route /path"]
        )
        self.problems.add(section.line, section.title, "", "unknown section" + hint)

    def _settings(
        self, common: dict[str, Section], plans: list[Section], issuers: list[Section],
        routes: list[Section],
    ) -> Settings | None:  # fmt: skip
        values = {name: self._values.common(name, common.get(name)) for name in SECTIONS}
        lines = checks.Lines(self.problems, common)
        values["gateway"]["edge"] = values["gateway"]["edge"] or socket.gethostname()
        checks.gateway(values["gateway"], lines, self._processors)
        checks.revocations(values["gateway"], lines, self._environ)
        checks.ratelimit(values["ratelimit"], lines, "ratelimit")
        self._warnings += checks.store(
            values["ratelimit"], values["gateway"], lines, self._directory, self._environ
        )
        others, asked = self._others(values, lines, issuers)
        self._proofs(values, lines, routes)
        checks.upstream(values["upstream"], lines, self._directory)
        checks.audit(values["audit"], lines, self._environ)
        self._warnings += checks.assertion(
            values["assertion"], values["gateway"], lines, self._directory, self._environ
        )
        made = {name: cls(**values[name]) for name, cls in MADE.items()}
        planned = read_plans(plans, values["ratelimit"], lines, self.problems, self._values.of)
        checks.cost(values["ratelimit"], planned, lines)
        reads = Routes(self.problems, self._directory, values, made, planned)
        found = [reads.read(section) for section in routes]
        if any(route.assertion != "no" for route in found):
            checks.unkept(values["assertion"], lines)
        known = [issuer.name for issuer in others]
        known += [LOCAL] if made["jwt"].has_key else []
        known += [ASKED] if asked is not None else []
        for section, route in zip(routes, found, strict=True):
            check_route(route.issuers, known, section, self.problems)
        if not routes:
            self.problems.add(0, "", "", "no [route /path]; a gateway needs at least one")
        twice(routes, self.problems)
        every = [made["headers"], *(route.headers for route in found)]
        headers.client_address(values["gateway"]["client_address_header"], every, lines)
        if self.problems.found:
            return None
        return Settings(
            **made,
            plans=tuple((name, RateLimitSettings(**plan)) for name, plan in planned.items()),
            issuers=others,
            introspection=asked,
            routes=tuple(found),
            warnings=(*self._warnings, *not_enforced(made, found)),
        )

    def _others(
        self, values: dict[str, dict[str, Any]], lines: checks.Lines, sections: list[Section]
    ) -> tuple[tuple[IssuerSettings, ...], IntrospectionSettings | None]:
        """Who else vouches for tokens; [jwt] needs no key then."""
        asked, of_asked = introspection(values.pop("introspection"), lines, self._directory)
        alone = not sections and asked is None
        self._warnings += checks.jwt(values["jwt"], lines, self._directory, not alone)
        others, of_others = read_issuers(sections, self.problems, self._values.of, self._directory)
        self._warnings += of_asked + of_others
        self._warnings += check_issuers(others, values["jwt"], self.problems, sections)
        return others, asked

    def _proofs(
        self, values: dict[str, dict[str, Any]], lines: checks.Lines, routes: list[Section]
    ) -> None:
        """[apikeys], [dpop], [mtls], and what routes say of them."""
        keys, mtls, gateway = values["apikeys"], values["mtls"], values["gateway"]
        self._warnings += proof_checks.apikeys(keys, lines, self._directory.path)
        proof_checks.dpop(values["dpop"], values["jwt"]["secret"], lines)
        modes = [mtls["mode"]]
        modes += [each.options["mtls.mode"].text for each in routes if "mtls.mode" in each.options]
        proof_checks.mtls(
            mtls, modes, [keys["header"], gateway["client_address_header"]], lines,
            self._directory, bool(gateway["trusted_proxies"]),
        )  # fmt: skip
        for route in routes:
            asked = route.options["auth"].text if "auth" in route.options else ""
            if "apikey" in asked and not keys["file"]:
                self.problems.add(route.options["auth"].line, route.title, "auth",
                                  "there is no [apikeys] file")  # fmt: skip
            if "mtls" in asked and mtls["user"] == "none":
                self.problems.add(route.options["auth"].line, route.title, "auth",
                                  "[mtls] user does not say who a certificate is")  # fmt: skip
