"""
A Twisted reactor on uvloop's native transports: C{twistd --reactor gateway}.

Lets every Twisted program run on libuv's own TCP and UNIX streams; what uvloop has no
better way for (UDP, processes, threads, resolution, timers) stays Twisted's.
"""

from gateway.reactor.core import GatewayReactor, install

__all__ = ["GatewayReactor", "install"]
