# -*- test-case-name: tests.admission.test_shells -*-
"""
What every stage's shell is: a leaf C{IResource} around the next one.

A shell lets a request on by returning the inner resource's C{render}, or answers it
and returns C{NOT_DONE_YET}. It is a leaf, so that a C{Site} hands it whole paths.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource
from zope.interface import implementer


@implementer(IResource)
class Shell:
    """The parts of C{IResource} that no stage cares about."""

    isLeaf = True

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:
        """A leaf has no children."""
        raise LookupError("a stage is a leaf: it has no children")

    def putChild(self, path: bytes, child: IResource) -> None:
        """A leaf has no children."""
        raise LookupError("a stage is a leaf: it has no children")

    def render(self, request: Any) -> Any:
        """Hand on, or answer."""
        raise NotImplementedError
