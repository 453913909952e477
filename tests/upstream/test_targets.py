"""Where routes lead: name look-ups that never end."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.testing import MemoryReactorClock
from zope.interface import directlyProvides

from gateway.http.sweep import Sweep
from gateway.settings import parse
from gateway.upstream.targets import Targets
from tests.system.tools import SECRET


class Waiting:
    """Who waits."""

    why = ""

    def connected(self, connection: Any) -> None:
        raise AssertionError

    def unavailable(self, why: str) -> None:
        self.why = why


class SilentResolver:
    """Never answers."""

    def resolveHostName(self, receiver: Any, *_: Any, **__: Any) -> None:
        receiver.resolutionBegan(self)


def test_a_name_that_is_never_looked_up() -> None:
    """A resolver that does not answer costs a request connect_timeout, not for ever."""
    reactor: Any = MemoryReactorClock()
    reactor.nameResolver = SilentResolver()
    directlyProvides(reactor, IReactorPluggableNameResolver)
    text = "[jwt]\nsecret = ${S}\n[route /a]\nupstream = http://users.internal\nupstream.connect_timeout = 3s"
    [route] = parse(text, {"S": SECRET}).routes
    target = Targets(reactor, Sweep(reactor)).of(route)
    waiting = Waiting()
    target.pool.wait(waiting)
    reactor.advance(2.9)
    assert waiting.why == ""
    reactor.advance(0.2)
    assert waiting.why == "timeout"
    assert len(target.pool) == 0
