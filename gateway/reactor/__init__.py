"""
A Twisted reactor on uvloop's native transports: C{twistd --reactor gateway}.

Lets every Twisted program run on libuv's own TCP and UNIX streams; what uvloop has no
better way for (UDP, processes, threads, resolution, timers) is Twisted's.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from gateway.reactor.parts import TCPConnector, TCPPort


class GatewayReactor(AsyncioSelectorReactor):
    """The reactor."""

    def __init__(self) -> None:
        import uvloop  # noqa: PLC0415 -- absent where there is no CPython

        super().__init__(uvloop.new_event_loop())

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a TCP port."""
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> Any:
        """Connect to a TCP port."""
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector


def install() -> None:
    """Make it the process's reactor."""
    from twisted.internet.main import installReactor  # noqa: PLC0415

    installReactor(GatewayReactor())
