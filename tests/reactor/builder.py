"""Makes the reactors of Twisted's own tests."""

from __future__ import annotations

from typing import Any

import uvloop

from gateway import reactor


def build(case: Any) -> reactor.GatewayReactor:
    """A reactor with a loop of its own, closed when the test is over."""
    loop = uvloop.new_event_loop()
    case.addCleanup(loop.close)
    return reactor.GatewayReactor(loop)


#: The name is what Twisted makes the names of the test classes of.
GatewayReactor = build
