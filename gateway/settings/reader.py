# -*- test-case-name: tests.settings.test_reader -*-
"""
Lets a configuration in that is right in every line; refuses any other with all its
problems at once (L{SettingsError}).

Files are read here and nowhere else: the INI file itself, secrets and keys.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.settings import checks, headers, limits, proof_checks
from gateway.settings.folder import Folder
from gateway.settings.issuers import (
    IssuerSettings,
    check_issuers,
    check_route,
    introspection,
    read_issuers,
)
from gateway.settings.option import BadValue, Option
from gateway.settings.origins import Origins
from gateway.settings.plans import read_plans
from gateway.settings.processors import processors as usable
from gateway.settings.proofs import ApiKeySettings, DpopSettings, MtlsSettings
from gateway.settings.require import CLAIM, made_when_met, read_requirements
from gateway.settings.route import (
    ROUTE_OPTIONS,
    RouteSettings,
    canonical,
    loosened,
    not_enforced,
    shadowed,
)
from gateway.settings.sections import (
    ASKED,
    GATES,
    LOCAL,
    OVERRIDABLE,
    SECTIONS,
    AssertionSettings,
    AuditSettings,
    BodySettings,
    BreakerSettings,
    CorsSettings,
    GatewaySettings,
    HeadersSettings,
    IntrospectionSettings,
    IpSettings,
    JwtSettings,
    RateLimitSettings,
    RequireSettings,
    UpstreamSettings,
)
from gateway.settings.text import (
    MAX_FILE,
    Problem,
    Problems,
    Section,
    SettingsError,
    Value,
    nearest,
    sections_of,
)

_MADE: dict[str, Any] = {
    "gateway": GatewaySettings,
    "apikeys": ApiKeySettings,
    "dpop": DpopSettings,
    "mtls": MtlsSettings,
    "ratelimit": RateLimitSettings,
    "ip": IpSettings,
    "require": RequireSettings,
    "headers": HeadersSettings,
    "cors": CorsSettings,
    "body": BodySettings,
    "breaker": BreakerSettings,
    "assertion": AssertionSettings,
    "audit": AuditSettings,
}

#: Paths that no route can have.
_OWN = ("/health", "/.well-known/gateway/jwks.json")


@dataclass(frozen=True, slots=True)
class Settings:
    """
    A whole configuration. C{plans} are by name; C{warnings} are sentences for the log;
    C{origins} says in which line what stands.
    """

    gateway: GatewaySettings
    jwt: JwtSettings
    apikeys: ApiKeySettings
    dpop: DpopSettings
    mtls: MtlsSettings
    ratelimit: RateLimitSettings
    ip: IpSettings
    require: RequireSettings
    headers: HeadersSettings
    cors: CorsSettings
    body: BodySettings
    breaker: BreakerSettings
    upstream: UpstreamSettings
    assertion: AssertionSettings
    audit: AuditSettings
    plans: tuple[tuple[str, RateLimitSettings], ...]
    issuers: tuple[IssuerSettings, ...]
    introspection: IntrospectionSettings | None
    routes: tuple[RouteSettings, ...]
    warnings: tuple[str, ...]
    origins: Origins = field(default_factory=Origins, compare=False, repr=False)

    @property
    def shadowed(self) -> tuple[str, ...]:
        """The sections whose gates are in shadow mode where no route says otherwise."""
        return shadowed({name: getattr(self, name) for name in GATES})

    @property
    def claim_fields(self) -> frozenset[bytes]:
        """The fields in which any service gets a claim, lower case, C{-} for C{_} and C{.}."""
        every = [self.headers, *(route.headers for route in self.routes)]
        return frozenset(
            headers.folded(field).encode("ascii") for each in every for field, _ in each.claims
        )


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

    # -- common sections

    def _settings(
        self, common: dict[str, Section], plans: list[Section], issuers: list[Section],
        routes: list[Section],
    ) -> Settings | None:  # fmt: skip
        values = {name: self._common(name, common.get(name)) for name in SECTIONS}
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
        made = {name: cls(**values[name]) for name, cls in _MADE.items()}
        made["jwt"] = _jwt(values["jwt"])
        made["upstream"] = UpstreamSettings(**values["upstream"])
        planned = read_plans(plans, values["ratelimit"], lines, self.problems, self._value)
        checks.cost(values["ratelimit"], planned, lines)
        found = [self._route(section, made, values, planned) for section in routes]
        if any(route is not None and route.assertion != "no" for route in found):
            checks.unkept(values["assertion"], lines)
        known = [issuer.name for issuer in others]
        known += [LOCAL] if made["jwt"].has_key else []
        known += [ASKED] if asked is not None else []
        for section, route in zip(routes, found, strict=True):
            check_route(route.issuers, known, section, self.problems)
        if not routes:
            self.problems.add(0, "", "", "no [route /path]; a gateway needs at least one")
        self._twice(routes)
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
        others, of_others = read_issuers(sections, self.problems, self._value, self._directory)
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

    def _common(self, name: str, section: Section | None) -> dict[str, Any]:
        declared = {option.name: option for option in SECTIONS[name][1]}
        found: dict[str, Any] = {"costs": ()} if name == "ratelimit" else {}
        if name == "headers":
            found["claims"] = ()
        for given, value in section.options.items() if section is not None else ():
            assert section is not None
            if name == "ratelimit" and given.startswith(limits.COST):
                found["costs"] += self._cost(section, given, given, value)
            elif name == "headers" and given.startswith(headers.CLAIM):
                found["claims"] += headers.claim(section, given, value, self.problems, self._value)
            elif given not in declared:
                self.problems.unknown(section, given, value, list(declared))
        if name == "headers" and section is not None:
            headers.once(found["claims"], section.line, section, self.problems)
            found["claims"] = headers.merged({"claims": ()}, found)["claims"]
        for option in declared.values():
            value_of = section.options.get(option.name) if section else None
            found[option.attribute] = self._value(option, section, value_of)
        return found

    def _cost(
        self, section: Section, given: str, name: str, value: Value
    ) -> tuple[tuple[str, int], ...]:
        """C{cost.POST}; C{given} is the option as it stands in the file."""
        option = limits.cost_option(name)
        if option is None:
            says = "expected cost.METHOD with the method in capitals, such as cost.POST"
            self.problems.add(value.line, section.title, given, says)
            return ()
        option = Option(given, option.type, option.default, "")
        return ((name[len(limits.COST) :], self._value(option, section, value)),)

    def _value(self, option: Option, section: Section | None, value: Value | None) -> Any:
        if value is None or value.broken:
            return option.type.parse(option.default)
        try:
            return option.type.parse(value.text)
        except BadValue as expected:
            shown = "the value" if option.secret else value.shown
            assert section is not None
            says = f"{shown} is not what was expected: {expected}"
            self.problems.add(value.line, section.title, option.name, says)
            return option.type.parse(option.default)

    # -- routes

    def _route(
        self,
        section: Section,
        made: dict[str, Any],
        values: dict[str, dict[str, Any]],
        plans: dict[str, dict[str, Any]],
    ) -> RouteSettings:
        prefix = self._prefix(section)
        own = {option.name: option for option in ROUTE_OPTIONS}
        given = {
            option.attribute: self._value(option, section, section.options.get(option.name))
            for option in ROUTE_OPTIONS
        }
        given["assertion"] = given["assertion"] or values["assertion"]["default"]
        if "upstream" not in section.options:
            self.problems.add(section.line, section.title, "upstream",
                              "missing; a route needs one, e.g. upstream = http://127.0.0.1:9001")  # fmt: skip
        overrides: dict[str, dict[str, Any]] = {}
        requirements = read_requirements(section, given, self.problems, self._value)
        for name, value in section.options.items():
            if name not in own and not made_when_met(name):
                self._override(section, name, value, overrides)
        sections = {name: made[name] for name in OVERRIDABLE}
        lines = checks.Lines(self.problems, {}, section)
        own_counter = limits.own_counter(overrides.get("ratelimit", {}))
        for name, changed in overrides.items():
            merged = {**values[name], **changed}
            if name == "ratelimit":
                merged = limits.merged(values[name], changed)
                checks.ratelimit(merged, lines, "ratelimit.")
                checks.cost(merged, {} if own_counter else plans, lines)
            elif name == "headers":
                headers.once(changed.get("claims", ()), section.line, section, self.problems)
                merged = headers.merged(values[name], changed)
            elif name == "upstream":
                checks.upstream(merged, lines, self._directory)
            sections[name] = (
                _jwt(merged) if name == "jwt"
                else UpstreamSettings(**merged) if name == "upstream"
                else _MADE[name](**merged)
            )  # fmt: skip
        if given["public"]:
            # Nobody says who calls: by address, and nothing to tell the service.
            sections["ratelimit"] = replace(sections["ratelimit"], key="ip")
            sections["headers"] = replace(sections["headers"], claims=())
        loose = loosened(sections, made, own_counter, given["public"])
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
            self.problems.add(section.line, "route", "", "expected [route /path]")
        elif not canonical(plain) or prefix.endswith("//"):
            self.problems.add(section.line, section.title, "",
                              "a prefix is whole plain segments, such as /api/v1/users")  # fmt: skip
        elif plain in _OWN:
            says = f"{plain} is answered by the gateway"
            self.problems.add(section.line, section.title, "", says)
        return plain

    def _override(
        self, section: Section, name: str, value: Value, overrides: dict[str, dict[str, Any]]
    ) -> None:
        of, _, option_name = name.partition(".")
        if of == "ratelimit" and option_name.startswith(limits.COST):
            own = overrides.setdefault(of, {})
            own["costs"] = own.get("costs", ()) + self._cost(section, name, option_name, value)
            return
        if of == "headers" and option_name.startswith(headers.CLAIM):
            own = overrides.setdefault(of, {})
            own["claims"] = own.get("claims", ()) + headers.claim(section, name, value, self.problems, self._value)
            return
        known = {option.name: option for option in SECTIONS[of][1]} if of in SECTIONS else {}
        option = known.get(option_name)
        if option is not None and (of not in OVERRIDABLE or not option.per_route):
            self.problems.add(value.line, section.title, name,
                              f"[{of}] {option_name} holds for all; a route can't override it")  # fmt: skip
        elif option is None:
            every = (
                [each.name for each in ROUTE_OPTIONS]
                + [CLAIM + "NAME"]
                + [
                    f"{of}.{each.name}"
                    for of in OVERRIDABLE
                    for each in SECTIONS[of][1]
                    if each.per_route
                ]
            )
            hint = nearest(name, every) or (
                f"; a route has {', '.join(each.name for each in ROUTE_OPTIONS)}, and section.option"
            )
            self.problems.add(value.line, section.title, name, "unknown option" + hint)
        else:
            overrides.setdefault(of, {})[option.attribute] = self._value(
                Option(name, option.type, option.default, ""), section, value
            )

    def _twice(self, routes: list[Section]) -> None:
        seen: dict[str, int] = {}
        for section in routes:
            prefix = section.argument.rstrip("/") or "/"
            if prefix in seen:
                self.problems.add(section.line, section.title, "",
                                  f"this prefix has a route already, in line {seen[prefix]}")  # fmt: skip
            seen.setdefault(prefix, section.line)


def _jwt(values: dict[str, Any]) -> JwtSettings:
    kept = {name: value for name, value in values.items() if name in JwtSettings.__slots__}
    return JwtSettings(**kept)
