# -*- test-case-name: tests.settings.test_issuers -*-
"""
Identity providers: lets C{[issuer NAME]} sections in, each with one place where its keys
are, and C{[introspection]}; refuses two for one C{iss}, keys that come in the clear, and
algorithms whose key would be a shared secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.jwks import key_ring
from gateway.keys import FAMILIES
from gateway.settings import checks
from gateway.settings.limits import PLAN_NAME
from gateway.settings.option import (
    DAY,
    LIST,
    TEXT,
    BadValue,
    Option,
    Type,
    duration,
    integer,
    several,
)
from gateway.settings.plans import Reads
from gateway.settings.secret import Secret
from gateway.settings.sections import ASKED, LOCAL, option_of
from gateway.settings.text import Problems, Section
from gateway.settings.tokens import IntrospectionSettings
from gateway.urls import safe_url

_ALGORITHMS = tuple(name for name, family in FAMILIES.items() if family != "HMAC")


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """
    [issuer NAME].

    @ivar discovery: a URL, or empty.
    @ivar jwks: a URL, or empty.
    @ivar file: the path of a key set, or empty.
    @ivar own: what it asks of its tokens itself, (option, value); the rest is as in [jwt].
    @ivar signers: certificates in PEM; empty: the system's.
    """

    name: str
    issuer: str
    discovery: str
    jwks: str
    file: str
    algorithms: tuple[str, ...]
    token_types: tuple[str, ...]
    own: tuple[tuple[str, Any], ...]
    signers: bytes
    fetch_timeout: float
    refresh_min: float
    refresh_max: float
    refresh_unknown: float
    keep: float
    waiting: int
    patience: float

    @property
    def source(self) -> str:
        """Where its keys are, for people."""
        return self.discovery or self.jwks or self.file


def _url(text: str) -> str:
    try:
        safe_url(text)
    except ValueError as error:
        raise BadValue(str(error)) from None
    return text


def _url_or_none(text: str) -> str:
    return _url(text) if text else ""


def _keys(text: str) -> str:
    return _url(text) if "://" in text else TEXT.parse(text)


def _types(text: str) -> tuple[str, ...]:
    return tuple(word.lower().removeprefix("application/") for word in LIST.parse(text))


_URL = Type(_url_or_none, "a URL, https unless on this machine")

ISSUER_OPTIONS: tuple[Option, ...] = (
    Option("issuer", TEXT, "", "What iss is in its tokens, exactly. Needed.",
           "https://login.example"),
    Option("discovery", _URL, "",
           "Its OpenID Connect discovery document, which says where its keys are, and must call it "
           "by the same name.", "https://login.example/.well-known/openid-configuration"),
    Option("jwks", Type(_keys, "a URL, https unless on this machine, or a file"), "",
           "Its key set (RFC 7517) instead: a URL, or a file, which is looked at every minute.",
           "https://login.example/keys"),
    Option("algorithms", several(_ALGORITHMS, "public-key algorithms"), "RS256, ES256",
           "What its tokens may be signed with. Each of its keys is bound to those that fit it, "
           "and to its own alg, when it is fetched.", "ES256, EdDSA"),
    Option("token_types", Type(_types, "a list of types"), "at+jwt, jwt",
           "What typ may be in its tokens' header (RFC 8725 section 3.11), without application/; "
           "jwt stands for a token without typ, too. Empty: not looked at.", "at+jwt"),
    Option("audience", LIST, "",
           "One of these must be aud, or in it, exactly. Default: as in [jwt].",
           "orders-api, billing-api"),
    *(option_of("jwt", name, says) for name, says in (
        ("leeway", "By how much its clock may differ. Default: as in [jwt]."),
        ("require_exp", "Whether a token without exp is refused. Default: as in [jwt]."),
        ("role_claim", "The claim that becomes X-User-Role; a dot reaches into objects. A list of "
         "roles is sent comma-separated, and each of them counts. Default: as in [jwt]."),
        ("default_role", "The role of a token without that claim. Default: as in [jwt]."),
    )),
    Option("ca_file", TEXT, "",
           "Certificates (PEM) that sign its server's. Default: the system's.", "ca.pem"),
    Option("fetch_timeout", duration(0.1, 60), "10s", "For one document."),
    Option("refresh_min", duration(1, DAY), "1m",
           "Its keys are fetched anew before four fifths of their life (max-age of Cache-Control, "
           "1h if it says none) are over; a life is at least this,"),
    Option("refresh_max", duration(1, 30 * DAY), "1d", "and at most this."),
    Option("refresh_unknown", duration(0.1, 3600), "10s",
           "Least time between two fetches for a key that is not known. Tokens that name such a "
           "key in between are refused at once."),
    Option("keep", duration(60, 365 * DAY), "1d",
           "For how long its keys are used when they can't be fetched any more; then 503."),
    Option("waiting", integer(0, 100_000), "100",
           "Requests that may wait for a fetch; the others are refused at once."),
    Option("patience", duration(0.05, 30), "1s", "For how long each may wait."),
)  # fmt: skip


def read_issuers(
    sections: list[Section], problems: Problems, value_of: Reads, directory: Any
) -> tuple[tuple[IssuerSettings, ...], list[str]]:
    """
    The issuers, and warnings about them.

    @param directory: where relative files are.
    """
    declared = {option.name: option for option in ISSUER_OPTIONS}
    found: list[IssuerSettings] = []
    seen: dict[str, int] = {}
    for section in sections:
        name = section.argument
        says = ""
        if PLAN_NAME.fullmatch(name) is None or name in (LOCAL, ASKED):
            says = "expected [issuer NAME], of letters, digits, dots and dashes, not "
            says += f"{LOCAL} or {ASKED}"
        elif name in seen:
            says = f"this issuer stands there already, in line {seen[name]}"
        if says:
            problems.add(section.line, section.title, "", says)
        seen.setdefault(name, section.line)
        for given, value in section.options.items():
            if given not in declared:
                problems.unknown(section, given, value, list(declared))
        values = {
            option.attribute: value_of(option, section, section.options.get(option.name))
            for option in ISSUER_OPTIONS
        }
        lines = checks.Lines(problems, {"issuer": section})
        found.append(_issuer(section, values, lines, directory))
    warnings = [
        f"[issuer {issuer.name}] has its keys in the clear, which is for trying things out"
        for issuer in found
        if issuer.source.startswith("http:")
    ]
    return tuple(found), warnings


def _issuer(
    section: Section, values: dict[str, Any], lines: checks.Lines, directory: Any
) -> IssuerSettings:
    if not values["issuer"]:
        lines.say("issuer", "issuer", "missing; expected what iss is in its tokens")
    given = [name for name in ("discovery", "jwks") if name in section.options]
    if len(given) != 1:
        says = "expected one of discovery and jwks"
        lines.say("issuer", given[-1] if given else "discovery", says)
    jwks = values["jwks"]
    file = "" if "://" in jwks or not jwks else str(Path(directory) / jwks)
    if file:
        _check_file(values, lines, directory, jwks)
    if values["refresh_min"] > values["refresh_max"]:
        lines.say("issuer", "refresh_min", "is more than refresh_max")
    inherited = ("audience", "leeway", "require_exp", "role_claim", "default_role")
    for name in ("role_claim", "default_role"):
        if name in section.options and not values[name]:
            lines.say("issuer", name, "empty; expected a name")
    kept = {name: values[name] for name in values if name in IssuerSettings.__slots__}
    return IssuerSettings(
        **{
            **kept,
            "name": section.argument,
            "jwks": "" if file else jwks,
            "file": file,
            "own": tuple((name, values[name]) for name in inherited if name in section.options),
            "signers": checks.signers(lines, "issuer", "ca_file", directory, values["ca_file"]),
        }
    )


def _check_file(values: dict[str, Any], lines: checks.Lines, directory: Any, name: str) -> None:
    document = checks.content(lines, "issuer", "jwks", directory, name)
    if document is not None:
        try:
            key_ring(document, values["algorithms"])
        except ValueError as error:
            lines.say("issuer", "jwks", f"{name}: {error}")


def check_issuers(
    issuers: Iterable[IssuerSettings],
    jwt: dict[str, Any],
    problems: Problems,
    sections: list[Section],
) -> list[str]:
    """Whether each C{iss} has one owner; warnings about tokens that are meant for anybody."""
    owners: dict[str, str] = {}
    warnings = []
    if jwt["issuer"] and (jwt["secret"] is not None or jwt["public_key"] is not None):
        owners[jwt["issuer"]] = "[jwt]"
    for issuer, section in zip(issuers, sections, strict=True):
        owner = owners.setdefault(issuer.issuer, f"[issuer {issuer.name}]")
        if issuer.issuer and owner != f"[issuer {issuer.name}]":
            value = section.options["issuer"]
            problems.add(value.line, section.title, "issuer", f"{owner} has that iss already")
        if not dict(issuer.own).get("audience", jwt["audience"]):
            warnings.append(
                f"[issuer {issuer.name}] asks for no audience: a token that it made for any other "
                "service is good here"
            )
    return warnings


def introspection(
    values: dict[str, Any], lines: checks.Lines, directory: Any
) -> tuple[IntrospectionSettings | None, list[str]]:
    """[introspection], where there is one; its secret read."""
    warnings: list[str] = []
    url, secret, file = values["url"], values["client_secret"], values["client_secret_file"]
    if not url:
        for name in ("client_id", "client_secret", "client_secret_file"):
            if lines.given(ASKED, name):
                lines.say(ASKED, "url", "missing; expected where to ask")
                break
        return None, warnings
    try:
        safe_url(url)
    except ValueError as error:
        lines.say(ASKED, "url", f"expected {error}")
    if url.startswith("http:"):
        warnings.append("[introspection] asks in the clear, which is for trying things out")
    raw = secret.encode("utf-8", "surrogateescape")
    if secret and file:
        lines.say(ASKED, "client_secret_file", "there is a secret already; expected one of the two")
    elif file:
        found, warnings_of_file = checks.secret_file(
            lines, ASKED, "client_secret_file", directory, file
        )
        raw = b"unread" if found is None else found
        warnings += warnings_of_file
    if bool(raw) != bool(values["client_id"]) and not lines.broken(ASKED, "client_secret"):
        lines.say(ASKED, "client_id", "expected both client_id and client_secret")
    kept = {name: values[name] for name in values if name in IntrospectionSettings.__slots__}
    kept["client_secret"] = Secret(raw)
    kept["signers"] = checks.signers(lines, ASKED, "ca_file", directory, values["ca_file"])
    return IntrospectionSettings(**kept), warnings


def check_route(
    names: tuple[str, ...], known: Iterable[str], section: Section, problems: Problems
) -> None:
    """A route's C{issuers} are there."""
    every = list(known)
    for name in names:
        if name not in every:
            value = section.options["issuers"]
            says = f"there is no issuer {name}; known are {', '.join(every) or 'none'}"
            problems.add(value.line, section.title, "issuers", says)
