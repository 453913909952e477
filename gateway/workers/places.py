# -*- test-case-name: tests.workers.test_places -*-
"""What is one worker's of what is for all, and on which processors it may run."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from gateway.settings import GatewaySettings, Settings
from gateway.settings.processors import processors


def start_directory() -> str:
    """
    Where the program was started, as the shell spells it: a link in the path that is
    turned to a new version later leads a successor there.
    """
    spelt, real = os.environ.get("PWD", ""), os.getcwd()
    try:
        if os.path.samefile(spelt, real):
            return spelt
    except OSError:
        pass
    return real


def cpus_of(settings: GatewaySettings, number: int) -> list[int]:
    """The processors of one worker; none: any."""
    if settings.cpu_affinity == "no":
        return []
    if settings.cpu_affinity == "yes":
        pool = processors()
    else:
        pool = [int(text) for text in settings.cpu_affinity.split(",")]
    return [pool[(number - 1) % len(pool)]]


def part_of(settings: Settings, worker: int, workers: int) -> Settings:
    """
    One worker's part of what is for all: of the connections its share; what one has to do
    for all, the first does.
    """
    changed: dict[str, Any] = {}
    for name in ("max_connections", "max_requests_in_flight"):
        changed[name] = -(-getattr(settings.gateway, name) // workers)
    settings = replace(settings, gateway=replace(settings.gateway, **changed))
    if worker == 1:
        return settings
    return replace(settings, audit=replace(settings.audit, retention=0), warnings=())
