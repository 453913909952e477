"""What is one worker's of what is for all."""

from __future__ import annotations

import pytest

from gateway.settings import Settings, parse
from gateway.settings.processors import processors
from gateway.workers.places import cpus_of, part_of


def settings(gateway: str) -> Settings:
    """A configuration."""
    return parse(
        f"[gateway]\n{gateway}\n[jwt]\nsecret = 0123456789abcdef0123456789abcdef\n[audit]\nretention = 9\n"
        "[route /a]\nupstream = http://127.0.0.1:1\n",
        {},
    )


def test_parts() -> None:
    """Bounds for all are shared out, rounded up; rows are deleted, and warnings told, by the first worker alone."""
    whole = settings("workers = 3\nmax_connections = 100\nmax_requests_in_flight = 10")
    first, second = part_of(whole, 1, 3), part_of(whole, 2, 3)
    for part in (first, second):
        assert part.gateway.max_connections == 34
        assert part.gateway.max_requests_in_flight == 4
    assert (first.audit.retention, second.audit.retention) == (9, 0)


def test_no_bound_stays_none() -> None:
    """No bound for all is no bound for one."""
    assert part_of(settings("workers = 2"), 1, 2).gateway.max_requests_in_flight == 0


def test_auto() -> None:
    """Auto is one worker for each processor this process may use."""
    assert settings("workers = auto").gateway.workers == len(processors())
    assert settings("workers = 7").gateway.workers == 7


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [("no", [[], [], []]), ("4, 5", [[4], [5], [4]]), ("9", [[9], [9], [9]])],
)
def test_affinity(affinity: str, expected: list[list[int]]) -> None:
    """Processors are given to workers in turn."""
    gateway = settings(f"workers = 3\ncpu_affinity = {affinity}").gateway
    assert [cpus_of(gateway, number) for number in (1, 2, 3)] == expected
