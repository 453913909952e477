"""
The INI file: what an option is, the reader, and the values the rest of the gateway sees.

Lets a file in that is right in every line; refuses any other with all its problems.
"""

from gateway.settings.issuers import IssuerSettings
from gateway.settings.proofs import ApiKeySettings, DpopSettings, MtlsSettings
from gateway.settings.reader import Settings, parse, read
from gateway.settings.route import RouteSettings
from gateway.settings.sections import (
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
    Secret,
    UpstreamSettings,
)
from gateway.settings.text import Problem, SettingsError

__all__ = [
    "ApiKeySettings", "AuditSettings", "BodySettings", "BreakerSettings", "CorsSettings",
    "DpopSettings", "GatewaySettings", "HeadersSettings", "IntrospectionSettings", "IpSettings",
    "IssuerSettings", "JwtSettings", "MtlsSettings", "Problem", "RateLimitSettings",
    "RequireSettings", "RouteSettings", "Secret", "Settings", "SettingsError", "UpstreamSettings",
    "parse", "read",
]  # fmt: skip
