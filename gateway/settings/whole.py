# -*- test-case-name: tests.settings.test_reader -*-
"""A whole configuration, as the rest of the gateway sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.settings.clients import BodySettings, CorsSettings, IpSettings, RequireSettings
from gateway.settings.headers import folded
from gateway.settings.issuers import IssuerSettings
from gateway.settings.origins import Origins
from gateway.settings.proofs import ApiKeySettings, DpopSettings, MtlsSettings
from gateway.settings.ratelimit import RateLimitSettings
from gateway.settings.route import RouteSettings, shadowed
from gateway.settings.sections import GATES
from gateway.settings.server import AuditSettings, GatewaySettings
from gateway.settings.services import (
    AssertionSettings,
    BreakerSettings,
    HeadersSettings,
    UpstreamSettings,
)
from gateway.settings.tokens import IntrospectionSettings, JwtSettings


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
            folded(field).encode("ascii") for each in every for field, _ in each.claims
        )
