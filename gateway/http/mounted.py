# -*- test-case-name: tests.http.test_mounted -*-
"""
Lets a request through to any resource of Twisted Web, mounted in our tree; answers 413
when its body is larger than such a resource may be given.

Stock resources expect the whole body in C{request.content}, so it is collected first.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.web.resource import IResource, getChildForRequest
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from gateway.http.interfaces import IBodyTaker
from gateway.http.request import Request


@implementer(IResource)
class Mounted:
    """
    A leaf of our tree under which a stock tree begins.

    @param root: the stock resource.
    @param max_size: bytes of body.
    @param prefix: segments of the path above it, C{b"/static"}.
    """

    isLeaf = True

    def __init__(self, root: IResource, max_size: int = 10 << 20, prefix: bytes = b"") -> None:
        self._root = root
        self._most = max_size
        self._skip = [segment for segment in prefix.split(b"/") if segment]

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:
        """A leaf has no children."""
        raise LookupError("mounted resources are found by render")

    def putChild(self, path: bytes, child: IResource) -> None:
        """A leaf has no children."""
        raise LookupError("mounted resources are found by render")

    def render(self, request: Any) -> Any:
        """Collect the body, then let the stock resource render."""
        if type(request) is not Request or request.body is None:
            return self._render(request)
        request.body.limit(self._most)
        request.body.deliver(_Collector(request, self._render))
        return NOT_DONE_YET

    def _render(self, request: Any) -> Any:
        used = request.postpath[: len(self._skip)]
        request.prepath, request.postpath = used, request.postpath[len(self._skip) :]
        return getChildForRequest(self._root, request).render(request)


@implementer(IBodyTaker)
class _Collector:
    def __init__(self, request: Any, render: Any) -> None:
        self._request = request
        self._render = render
        self._content = BytesIO()

    def bodyReceived(self, data: bytes) -> None:
        self._content.write(data)

    def bodyEnded(self, trailers: list[bytes]) -> None:
        self._content.seek(0)
        self._request.content = self._content
        result = self._render(self._request)
        if isinstance(result, bytes):
            self._request.write_whole(result)

    def bodyFailed(self, why: str) -> None:
        if why == "body_size":
            self._request.setResponseCode(413)
            self._request.write_whole(b"")
