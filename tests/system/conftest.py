"""One daemon for all tests that need nothing special, and an upstream each may script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.tools import Daemon, Upstream, gateway, ok

COMMON = """
[route /strict]
upstream = http://127.0.0.1:{port}
methods = GET, POST
require.role = admin, support
[route /limited]
upstream = http://127.0.0.1:{port}
ratelimit.limit = 3
[route /small]
upstream = http://127.0.0.1:{port}
body.max_size = 1KiB
[route /based]
upstream = http://127.0.0.1:{port}/base/path
keep_host = yes
"""


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[Upstream]:
    """The upstream behind the shared daemon."""
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_upstream: Upstream) -> Iterator[Daemon]:
    """The shared daemon; nobody may break it."""
    routes = COMMON.format(port=shared_upstream.port)
    routes += f"""
[route /scoped]
upstream = http://127.0.0.1:{shared_upstream.port}
require.scope = orders:read
require.claim.department = finance, audit
[route /dead]
upstream = http://127.0.0.1:1
"""
    # Many tests have the upstream fail: the circuit is another test's business.
    patient = "[breaker]\nfailures = 100000"
    folder = tmp_path_factory.mktemp("shared")
    with gateway(folder, shared_upstream, rest=patient, routes=routes) as daemon:
        yield daemon


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Iterator[Upstream]:
    """The shared upstream, with nothing remembered and no opinion."""
    shared_upstream.answer = ok
    shared_upstream.settle()
    shared_upstream.calls.clear()
    shared_upstream.log.clear()
    yield shared_upstream
    shared_upstream.answer = ok
