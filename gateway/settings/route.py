# -*- test-case-name: tests.settings.test_route -*-
"""
One route's settings: lets in a prefix that is canonical and an upstream that is a plain
URL; tells what the route loosens against the common sections.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.settings.clients import BodySettings, CorsSettings, IpSettings, RequireSettings
from gateway.settings.limits import Windows, told
from gateway.settings.option import LIST, SHADOW, TEXT, YES_NO, BadValue, Option, Type
from gateway.settings.proofs import (
    AUTH,
    DpopSettings,
    MtlsSettings,
    dpop_loosened,
    mtls_loosened,
)
from gateway.settings.ratelimit import RateLimitSettings
from gateway.settings.require import REQUIRE_OPTIONS, Requirements
from gateway.settings.sections import GATES
from gateway.settings.services import BreakerSettings, HeadersSettings, UpstreamSettings
from gateway.settings.tokens import JwtSettings


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """
    A route, with the sections as they hold for it. A section that it does not override is
    the very object of the common settings.

    @ivar upstream: the URL.
    @ivar public: whether no token is asked for.
    @ivar requirements: what is asked of those who call; C{require} says whether in earnest.
    @ivar auth: the credentials it takes; empty: all.
    @ivar upstream_settings: [upstream] as it holds here.
    @ivar assertion: C{no}, C{user} or C{request}.
    @ivar assertion_audience: empty: the upstream.
    @ivar own_counter: whether it has a limit of its own.
    @ivar overrides: the options it overrides, as in the file.
    @ivar loosened: sentences about what it loosens.
    """

    prefix: str
    upstream: str
    keep_host: bool
    public: bool
    methods: tuple[str, ...]
    issuers: tuple[str, ...]
    requirements: Requirements
    auth: tuple[str, ...]
    assertion: str
    assertion_audience: str
    jwt: JwtSettings
    dpop: DpopSettings
    mtls: MtlsSettings
    ratelimit: RateLimitSettings
    ip: IpSettings
    require: RequireSettings
    headers: HeadersSettings
    cors: CorsSettings
    body: BodySettings
    breaker: BreakerSettings
    upstream_settings: UpstreamSettings
    own_counter: bool
    overrides: tuple[str, ...]
    loosened: tuple[str, ...]

    @property
    def shadowed(self) -> tuple[str, ...]:
        """The sections whose gates are in shadow mode here."""
        return shadowed({name: getattr(self, name) for name in GATES})


def shadowed(sections: Mapping[str, Any]) -> tuple[str, ...]:
    """The sections, of all of them by name, whose gates are in shadow mode."""
    return tuple(name for name in GATES if sections[name].mode == SHADOW)


def not_enforced(common: Mapping[str, Any], routes: Sequence[RouteSettings]) -> list[str]:
    """What is in shadow mode, as sentences for the log."""
    everywhere = shadowed(common)
    found = [f"[{name}] mode = shadow: what it would refuse passes" for name in everywhere]
    for route in routes:
        more = [name for name in route.shadowed if name not in everywhere]
        if more:
            says = "in shadow mode: what they would refuse passes"
            found.append(f"[route {route.prefix}] {', '.join(more)} {says}")
    return found


_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PREFIX = re.compile(r"/|(/[A-Za-z0-9\-._~!$&'()*+,=:@]+)+")


def _url(text: str) -> str:
    expected = "a URL such as http://127.0.0.1:9001 or https://orders.internal/base"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise BadValue(expected) from None
    host = url.hostname or ""
    if (
        url.scheme not in ("http", "https")
        or "@" in url.netloc
        or "?" in text
        or "#" in text
        or port == 0
        or not _is_host(host)
        or url.netloc.endswith(":")
    ):
        raise BadValue(expected)
    path = url.path.rstrip("/")
    if path and not canonical(path):
        raise BadValue(expected + ", its path without //, dots or escapes")
    return text


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # All digits and dots, but no address: 127.1 would be one to some resolvers.
        return _HOST.fullmatch(host) is not None and not re.fullmatch(r"[0-9.]+", host)
    return True


def canonical(prefix: str) -> bool:
    """Whether a prefix can be matched byte for byte."""
    return _PREFIX.fullmatch(prefix) is not None and not any(
        segment in (".", "..") for segment in prefix.split("/")
    )


def _assertion(text: str) -> str:
    if text not in ("", "no", "user", "request"):
        raise BadValue("no, user or request")
    return text


ROUTE_OPTIONS: tuple[Option, ...] = (
    Option("upstream", Type(_url, "a URL"), "http://127.0.0.1",
           "Where to forward to: http:// or https://, host, port, and maybe a path that is put "
           "before the rest of the request's. Needed.", "http://127.0.0.1:9001"),
    Option("keep_host", YES_NO, "no",
           "Whether the upstream gets the client's Host field instead of its own name.", "yes"),
    *REQUIRE_OPTIONS,
    Option("issuers", LIST, "",
           "Whose tokens are good here: names of [issuer NAME] sections, jwt for the local key, "
           "introspection for opaque ones. Default: all.", "corp, jwt"),
    AUTH,
    Option("assertion", Type(_assertion, "no, user or request"), "",
           "Whether the upstream is told in X-Gateway-Assertion, signed, who calls (user) and with "
           "which request (request). Default: as [assertion] default says.", "user"),
    Option("assertion.audience", TEXT, "",
           "What aud says there. Default: the upstream's scheme, host and port.", "orders"),
)  # fmt: skip


def loosened(
    route_sections: dict[str, Any], common: dict[str, Any], own_counter: bool, public: bool
) -> tuple[str, ...]:
    """What a route allows that the common sections don't."""
    found: list[str] = []
    if public:
        found.append("no token is asked for")
    found += [
        f"[{name}] in shadow mode: what it would refuse passes"
        for name in shadowed(route_sections)
        if name not in shadowed(common)
    ]
    if own_counter:
        found.append("its requests do not count towards the common limit")
    for name, compare in _COMPARE.items():
        here, there = route_sections[name], common[name]
        if here is not there:
            found += compare(here, there)  # type: ignore[operator]
    return tuple(found)


def _jwt(here: JwtSettings, there: JwtSettings) -> list[str]:
    found = []
    if there.require_exp and not here.require_exp:
        found.append("tokens without exp are accepted")
    for name in ("issuer", "audience"):
        was, now = getattr(there, name), getattr(here, name)
        if was and was != now:
            found.append(f"{name} {was} is not asked for" + (f", but {now}" if now else ""))
    if here.leeway > there.leeway:
        found.append(f"leeway {here.leeway:g} s instead of {there.leeway:g} s")
    if here.role_claim != there.role_claim:
        found.append(f"the role is what {here.role_claim} says instead of {there.role_claim}")
    if here.default_role != there.default_role:
        found.append(f"the default role is {here.default_role} instead of {there.default_role}")
    return found


def _rate(here: RateLimitSettings, there: RateLimitSettings) -> list[str]:
    found = []
    if not all(_as_strict(here.windows, window) for window in there.windows):
        more = told(here.windows).replace(" in ", " requests in ", 1)
        found.append(f"{more} instead of {told(there.windows)}")
    if there.algorithm == "sliding-window" != here.algorithm:
        found.append(f"{here.algorithm} instead of sliding-window lets more into some spans")
    if here.on_store_failure == "open" != there.on_store_failure:
        found.append("requests pass uncounted when the store fails")
    costs = dict(there.costs)
    for method in dict.fromkeys((*costs, *dict(here.costs), "")):
        was, now = costs.get(method, there.cost), dict(here.costs).get(method, here.cost)
        if now < was:
            found.append(f"{method or 'a request'} counts as {now} instead of {was}")
    return found


def _as_strict(here: Windows, there: tuple[int, float]) -> bool:
    """Whether one of the windows lets no more pass than that one, in no span."""
    limit, window = there
    return any(each <= limit and each / span <= limit / window for each, span in here)


def _ip(here: IpSettings, there: IpSettings) -> list[str]:
    found = []
    if there.allow and not here.allow:
        found.append("every address is allowed")
    elif there.allow:
        wider = [text for text in here.allow if not _inside(text, there.allow)]
        if wider:
            found.append(f"also allowed: {', '.join(wider)}")
    dropped = [text for text in there.deny if not _inside(text, here.deny)]
    if dropped:
        found.append(f"not denied: {', '.join(dropped)}")
    return found


def _inside(text: str, networks: Sequence[str]) -> bool:
    network = ipaddress.ip_network(text)
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]
        for other in map(ipaddress.ip_network, networks)
    )


def _cors(here: CorsSettings, there: CorsSettings) -> list[str]:
    if not here.enabled:
        return []
    if not there.enabled:
        return ["OPTIONS is answered without a token"]
    more = [origin for origin in here.allow_origin if origin not in there.allow_origin]
    return [f"scripts of {', '.join(more)} may read answers"] if more else []


def _body(here: BodySettings, there: BodySettings) -> list[str]:
    if here.max_size > there.max_size:
        return [f"bodies up to {here.max_size} bytes instead of {there.max_size}"]
    return []


def _breaker(here: BreakerSettings, there: BreakerSettings) -> list[str]:
    found = []
    if here.failures > there.failures or here.reset_after < there.reset_after:
        found.append(
            f"the circuit opens after {here.failures} failures for {here.reset_after:g} s instead "
            f"of {there.failures} for {there.reset_after:g} s (routes to one address share the "
            "stricter one)"
        )
    ignored = [str(status) for status in there.statuses if status not in here.statuses]
    if ignored:
        found.append(f"{', '.join(ignored)} do not count as failures")
    return found


_COMPARE = {
    "jwt": _jwt, "dpop": dpop_loosened, "mtls": mtls_loosened, "ratelimit": _rate, "ip": _ip,
    "cors": _cors, "body": _body, "breaker": _breaker,
}  # fmt: skip
