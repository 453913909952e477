"""
Twisted's own reactor tests with this reactor as the one under test; run by trial in a
child process (see L{tests.reactor.test_twisted}).
"""

from __future__ import annotations

from importlib import import_module

from twisted.internet.test.reactormixins import ReactorBuilder

from tests.reactor.builder import GatewayReactor

MODULES = (
    "test_core", "test_fdset", "test_newtls", "test_process", "test_socket", "test_stdio",
    "test_tcp", "test_threads", "test_time", "test_tls", "test_udp", "test_unix",
)  # fmt: skip

ReactorBuilder._reactors = ["tests.reactor.builder.GatewayReactor"]
ReactorBuilder.getTimeout = lambda _: 4.0

for module in MODULES:
    globals().update(
        (f"{module}_{name}", value)
        for name, value in vars(import_module(f"twisted.internet.test.{module}")).items()
        if getattr(value, "reactorFactory", None) is GatewayReactor
    )
