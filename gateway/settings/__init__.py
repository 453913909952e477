"""
The INI file: what an option is, the reader, and the values the rest of the gateway sees.

Lets a file in that is right in every line; refuses any other with all its problems.
"""

from gateway.settings.clients import BodySettings, CorsSettings, IpSettings, RequireSettings
from gateway.settings.issuers import IssuerSettings
from gateway.settings.proofs import ApiKeySettings, DpopSettings, MtlsSettings
from gateway.settings.ratelimit import RateLimitSettings
from gateway.settings.reader import parse, read
from gateway.settings.route import RouteSettings
from gateway.settings.secret import Secret
from gateway.settings.server import AuditSettings, GatewaySettings
from gateway.settings.services import BreakerSettings, HeadersSettings, UpstreamSettings
from gateway.settings.text import Problem, SettingsError
from gateway.settings.tokens import IntrospectionSettings, JwtSettings
from gateway.settings.whole import Settings

__all__ = [
    "ApiKeySettings", "AuditSettings", "BodySettings", "BreakerSettings", "CorsSettings",
    "DpopSettings", "GatewaySettings", "HeadersSettings", "IntrospectionSettings", "IpSettings",
    "IssuerSettings", "JwtSettings", "MtlsSettings", "Problem", "RateLimitSettings",
    "RequireSettings", "RouteSettings", "Secret", "Settings", "SettingsError", "UpstreamSettings",
    "parse", "read",
]  # fmt: skip
