"""Real servers for tests of stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores.valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """One server for all tests that only count; each takes keys of its own."""
    server = Valkey()
    yield server
    server.stop()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A server that the test may kill."""
    server = Valkey()
    yield server
    server.stop()
