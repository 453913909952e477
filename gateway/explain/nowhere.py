# -*- test-case-name: tests.explain.test_stages -*-
"""A reactor that leads nowhere: lets a gateway be made, and nothing be done with it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.task import Clock
from zope.interface import implementer


@implementer(IReactorPluggableNameResolver)
class Nowhere(Clock):
    """A clock that stands still, and names that nobody looks up."""

    nameResolver: Any = None

    def installNameResolver(self, resolver: Any) -> Any:
        """Nobody asks it."""
