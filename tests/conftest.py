"""Whatever the tests start, they end; and none of them fails for being slow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """After the last test no child of this process lives on."""
    yield
    tasks = Path(f"/proc/{os.getpid()}/task")
    left = [child for task in tasks.glob("*/children") for child in task.read_text().split()]
    assert left == [], [Path(f"/proc/{child}/cmdline").read_bytes() for child in left]


@pytest.fixture
def patches() -> Iterator[pytest.MonkeyPatch]:
    """Undone after each example, not only after the test."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
