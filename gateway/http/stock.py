# -*- test-case-name: tests.http.test_stock -*-
"""
The face of a request that resources of Twisted Web know (C{IRequest}); built when asked.

Nothing here runs for a request that only our own stages see. What Twisted's own
request does with headers is borrowed from it rather than written again.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.web import http
from twisted.web.http_headers import Headers

from gateway.http.heads import field_lines

if TYPE_CHECKING:
    from collections.abc import Callable

_Stock = http.Request


class Lazy:
    """
    An attribute that is made when it is first asked for, and is the instance's own from then
    on. (A C{__getattr__} would do, but with one in its class every attribute of every request
    is looked up the long way.)
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, request: Any, owner: type) -> Any:
        if request is None:
            return self
        value = request.__dict__[self._name] = self._make(request)
        return value


class StockFace:
    """
    C{IRequest}, less the writing.

    @ivar prepath: segments of the path already used, for C{getChild}.
    @ivar postpath: segments still to be used.
    """

    head: Any
    raw: bytes
    method: bytes
    channel: Any
    begin: Callable[..., None]
    finish: Callable[..., None]

    requestHeaders = Lazy(lambda self: _headers(field_lines(self.raw)))
    responseHeaders = Lazy(lambda self: Headers())
    content = Lazy(lambda self: BytesIO())
    path = Lazy(lambda self: self.uri.partition(b"?")[0])
    args = Lazy(lambda self: http.parse_qs(self.uri.partition(b"?")[2], True))
    prepath = Lazy(lambda self: [])
    postpath = Lazy(lambda self: [unquote_to_bytes(s) for s in self.path[1:].split(b"/")])
    sitepath = Lazy(lambda self: [])
    clientproto = Lazy(lambda self: b"HTTP/1.1" if self.head.http11 else b"HTTP/1.0")
    cookies = Lazy(lambda self: [])
    received_cookies = Lazy(lambda self: {})
    lastModified = Lazy(lambda self: None)
    etag = Lazy(lambda self: None)
    code_message = Lazy(lambda self: b"")
    user = Lazy(lambda self: b"")
    password = Lazy(lambda self: b"")
    site = Lazy(lambda self: self.channel.site)
    session = Lazy(lambda self: None)

    @property
    def uri(self) -> bytes:
        """Path and query as sent."""
        return self.head.target  # type: ignore[no-any-return]

    getHeader = _Stock.getHeader
    getAllHeaders = _Stock.getAllHeaders
    getRequestHostname = _Stock.getRequestHostname
    setHeader = _Stock.setHeader
    setLastModified = _Stock.setLastModified
    setETag = _Stock.setETag
    redirect = _Stock.redirect

    def getCookie(self, key: bytes) -> bytes | None:
        """The first cookie of that name, or C{None}."""
        for line in self.requestHeaders.getRawHeaders(b"cookie", ()):
            for pair in line.split(b";"):
                name, _, value = pair.strip().partition(b"=")
                if name == key:
                    return bytes(value)
        return None

    def addCookie(
        self,
        k: bytes,
        v: bytes,
        expires: bytes | None = None,
        domain: bytes | None = None,
        path: bytes | None = None,
        max_age: bytes | None = None,
        comment: bytes | None = None,
        secure: bool | None = None,
    ) -> None:
        """Set a cookie."""
        named = {
            b"Expires": expires,
            b"Domain": domain,
            b"Path": path,
            b"Max-Age": max_age,
            b"Comment": comment,
        }
        parts = [k + b"=" + v]
        parts += [name + b"=" + value for name, value in named.items() if value is not None]
        parts += [b"Secure"] if secure else []
        self.responseHeaders.addRawHeader(b"Set-Cookie", b"; ".join(parts))

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """The status of the answer to come."""
        self.code = code
        self.code_message = message or b""

    def getHost(self) -> Any:
        """Our end of the connection."""
        return self.channel.transport.getHost()

    def setHost(self, host: bytes, port: int, ssl: bool = False) -> None:
        """Twisted's way to override the Host field, for links made from it."""
        self.requestHeaders.setRawHeaders(b"host", [host])

    def getClientAddress(self) -> Any:
        """The peer's address; not the client's behind a trusted proxy."""
        return self.channel.transport.getPeer()

    def getClientIP(self) -> str | None:
        """The peer's address as text, or C{None} for a UNIX socket."""
        return self.channel.peer  # type: ignore[no-any-return]

    def getUser(self) -> bytes:
        """Basic authentication is none of ours."""
        return b""

    def getPassword(self) -> bytes:
        """Basic authentication is none of ours."""
        return b""

    def isSecure(self) -> bool:
        """Whether the client came over TLS."""
        from twisted.internet.interfaces import ISSLTransport  # noqa: PLC0415

        return bool(ISSLTransport.providedBy(self.channel.transport))

    def getSession(self, sessionInterface: Any = None) -> Any:
        """Sessions are none of ours."""
        raise NotImplementedError("this engine keeps no sessions")

    def prePathURL(self) -> bytes:
        """The URL of what L{prepath} names."""
        scheme = b"https://" if self.isSecure() else b"http://"
        host: bytes = self.head.host
        return scheme + host + b"/" + b"/".join(self.prepath)

    def URLPath(self) -> Any:
        """The same as an object."""
        from twisted.python.urlpath import URLPath  # noqa: PLC0415

        return URLPath.fromBytes(self.prePathURL())

    def rememberRootURL(self) -> None:
        """Remember where the tree begins."""
        self.appRootURL = self.prePathURL().rsplit(b"/", 1)[0]

    def getRootURL(self) -> bytes | None:
        """What L{rememberRootURL} remembered."""
        return getattr(self, "appRootURL", None)

    def childLink(self, name: bytes) -> bytes:
        """A relative link to a child of the resource that was asked for."""
        last: bytes = self.uri.partition(b"?")[0].rpartition(b"/")[2]
        return last + b"/" + name if last else name

    def sibLink(self, name: bytes) -> bytes:
        """A relative link to a sibling."""
        return b"../" + name if len(self.postpath) else name

    def write_whole(self, body: bytes) -> None:
        """Answer with what a resource's C{render} has returned."""
        self.begin_stock(body, whole=True)
        self.finish()

    def begin_stock(self, data: bytes, whole: bool = False) -> None:
        """Write the head that was set up through C{setHeader} and its like."""
        headers = self.responseHeaders
        if self.lastModified is not None and not headers.hasHeader(b"last-modified"):
            headers.setRawHeaders(b"last-modified", [http.datetimeToString(self.lastModified)])
        if self.etag is not None:
            headers.setRawHeaders(b"etag", [self.etag])
        declared = headers.getRawHeaders(b"content-length")
        length = int(declared[-1]) if declared else (len(data) if whole else -1)
        lines = b"".join(
            b"%s: %s\r\n" % (name, value)
            for name, values in headers.getAllRawHeaders()
            if name.lower() not in _OURS
            for value in values
        )
        self.begin(self.code, self.code_message, lines, length, data)


#: Framing is the engine's business.
_OURS = frozenset((b"content-length", b"transfer-encoding", b"connection", b"keep-alive"))


def _headers(lines: list[bytes]) -> Headers:
    headers = Headers()
    for line in lines:
        name, _, value = line.partition(b":")
        headers.addRawHeader(name, value.strip(b" \t"))
    return headers
