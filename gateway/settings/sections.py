# -*- test-case-name: tests.settings.test_reader -*-
"""
The sections of the file that stand there once, in the manual's order: what each is for, and its
options. Those that have names ([issuer NAME], [plan NAME], [route /path]) are declared elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.settings.clients import (
    BODY,
    CORS,
    IP,
    REQUIRE,
    BodySettings,
    CorsSettings,
    IpSettings,
    RequireSettings,
)
from gateway.settings.option import Declared, Option
from gateway.settings.proofs import (
    APIKEYS,
    DPOP,
    MTLS,
    ApiKeySettings,
    DpopSettings,
    MtlsSettings,
)
from gateway.settings.ratelimit import RATELIMIT, RateLimitSettings
from gateway.settings.server import AUDIT, GATEWAY, AuditSettings, GatewaySettings
from gateway.settings.services import (
    ASSERTION,
    BREAKER,
    HEADERS,
    UPSTREAM,
    AssertionSettings,
    BreakerSettings,
    HeadersSettings,
    UpstreamSettings,
)
from gateway.settings.tokens import INTROSPECTION, JWT, JwtSettings

#: The names of those that are no [issuer NAME]: the local key, and who is asked.
LOCAL, ASKED = "jwt", "introspection"

SECTIONS: dict[str, Declared] = {
    "gateway": GATEWAY,
    LOCAL: JWT,
    ASKED: INTROSPECTION,
    "apikeys": APIKEYS,
    "dpop": DPOP,
    "mtls": MTLS,
    "ratelimit": RATELIMIT,
    "ip": IP,
    "require": REQUIRE,
    "headers": HEADERS,
    "cors": CORS,
    "body": BODY,
    "breaker": BREAKER,
    "upstream": UPSTREAM,
    "assertion": ASSERTION,
    "audit": AUDIT,
}

#: What each becomes when its values are right; [introspection] only if somebody is asked.
MADE: dict[str, Any] = {
    "gateway": GatewaySettings,
    "jwt": JwtSettings,
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
    "upstream": UpstreamSettings,
    "assertion": AssertionSettings,
    "audit": AuditSettings,
}

#: Sections of which a route may override options.
OVERRIDABLE = (
    "jwt", "dpop", "mtls", "ratelimit", "ip", "require", "headers", "cors", "body", "breaker",
    "upstream",
)  # fmt: skip

#: Sections of gates, which may be in shadow mode.
GATES = tuple(
    name
    for name, (_, options) in SECTIONS.items()
    if any(option.name == "mode" and option.default == "enforce" for option in options)
)


def option_of(section: str, name: str, says: str) -> Option:
    """The option of another section, for one that has it, too; C{says} is what for."""
    found = next(option for option in SECTIONS[section][1] if option.name == name)
    return replace(found, says=says, example=found.example or found.default)
