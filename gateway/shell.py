# -*- test-case-name: tests.admission.test_shells -*-
"""
What every stage's shell is: a leaf C{IResource} around the next one.

A shell lets a request on by returning the inner resource's C{render}, or answers it
and returns C{NOT_DONE_YET}. It is a leaf, so that a C{Site} hands it whole paths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from twisted.web.resource import IResource
from zope.interface import implementer

from gateway.exchange import exchange_of
from gateway.http.request import Request


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


def afterwards(request: Any, act: Callable[..., Any], *arguments: Any) -> None:
    """
    Go on with a request that has waited. There is no caller who would write what comes of it or
    see to what breaks, and others may wait, too.

    @param act: called with the request, its face, its exchange and C{arguments}; returns what a
        C{render} does.
    """
    ours = type(request) is Request
    try:
        face, exchange = (request, request.exchange) if ours else exchange_of(request)
        face.on_cut = None
        answer_late(request, act(request, face, exchange, *arguments))
    except Exception:
        if ours:
            request.channel.site.broken(request)
        else:
            request.processingFailed(Failure())


def answer_late(request: Any, result: Any) -> None:
    """Write what a C{render} has returned long after the one who called it went on."""
    if not isinstance(result, bytes):
        return
    if type(request) is Request:
        request.write_whole(result)
    else:
        request.write(result)
        request.finish()
