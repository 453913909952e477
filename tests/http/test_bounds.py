"""Tests for gateway.http.bounds: what the engine's parts are told of the settings."""

import pytest

from gateway.http.pool import PoolLimits
from gateway.http.site import Limits
from tests.settings.test_reader import good


@pytest.mark.parametrize(
    ("kind", "section", "written"),
    [
        (Limits, "gateway", {"header_timeout": 7.0, "body_timeout": 8.0, "send_timeout": 9.0, "idle_timeout": 6.0,
                             "max_head": 2000, "max_request_line": 1000, "max_connections": 5, "max_connections_per_ip": 4}),
        (PoolLimits, "upstream", {"response_timeout": 7.0, "read_timeout": 8.0, "connections": 9, "queue": 6,
                                  "queue_timeout": 5.0, "idle_connections": 4, "idle_timeout": 3.0}),
    ],
)  # fmt: skip
def test_bounds_are_the_settings(kind, section, written):
    """Each number in the file arrives where it bounds something."""
    lines = "".join(f"{name} = {f'{value:g}s' if isinstance(value, float) else value}\n" for name, value in written.items())
    settings = getattr(good(f"[{section}]\n{lines}"), section)
    assert kind.of(settings) == kind(**written) != kind()
