"""Which reactor C{twistd gateway} runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import tools
from tests.system.tools import Upstream, gateway

pytest.importorskip("uvloop")


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], "gateway.reactor.core.GatewayReactor"), (["--reactor=epoll"], "twisted.internet.epollreactor.EPollReactor"),
     (["--reactor=asyncio"], "twisted.internet.asyncioreactor.AsyncioSelectorReactor"), (["--reactor=gateway"], "gateway.reactor.core.GatewayReactor")],
)  # fmt: skip
def test_reactor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: str) -> None:
    """The gateway brings its own reactor unless twistd is told another, and serves on any."""
    monkeypatch.setattr(tools, "REACTOR", options)
    upstream = Upstream()
    try:
        with gateway(tmp_path, upstream) as daemon:
            assert daemon.get().status == 200
            assert f"reactor class: {expected}." in daemon.log.read_text()
    finally:
        upstream.stop()
