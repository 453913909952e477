# -*- test-case-name: tests.issuers.test_fetch -*-
"""
Asks an identity provider over HTTP: lets an answer in that is 200, short and in time, from a
server whose certificate is right; refuses everything else, with a sentence for the log.

Redirects are not followed: where keys come from is the configuration's business. Compressed
answers are not asked for, and refused. Names that lead to addresses nobody should be sent to
(L{gateway.urls}) are refused after they were looked up, so that no name hides them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from gateway.trust import client_tls
from gateway.urls import loopback_address, refused_address

#: Seconds for a connection.
CONNECT = 5.0


class FetchFailed(Exception):
    """Nothing could be had; C{str()} is a sentence for the log, without a secret."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """
    What was had.

    @ivar lifetime: seconds for which its owner says it holds, or C{None}.
    """

    body: bytes
    lifetime: float | None


class Fetcher:
    """
    @param signers: certificates in PEM; empty: the system's.
    @param timeout: seconds for the whole of one answer.
    @param most: bytes of it.
    @param kept: connections that are kept between two questions.
    """

    def __init__(
        self, reactor: Any, signers: bytes = b"", timeout: float = 10.0, most: int = 256 * 1024,
        kept: int = 0,
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._signers = signers
        self._timeout = timeout
        self._most = most
        self._kept = kept
        self._client: Any = None
        self._pool: Any = None
        self._refused = ""

    def prepare(self) -> None:
        """Do now what would take a moment at the first question."""
        if self._client is None:
            self._client = self._made()

    def get(self, url: str) -> Deferred[Fetched]:
        """
        Fetch a document.

        @return: fails with L{FetchFailed}, and with nothing else.
        """
        return self._ask("GET", url, {}, None)

    def post(
        self, url: str, fields: Mapping[str, str], headers: Mapping[str, str]
    ) -> Deferred[Fetched]:
        """The same for a form that is sent there."""
        return self._ask("POST", url, headers, dict(fields))

    def close(self) -> Deferred[None]:
        """End the connections that were kept."""
        closed: Deferred[None] = Deferred()
        if self._pool is None:
            closed.callback(None)
        else:
            self._pool.closeCachedConnections().chainDeferred(closed)
        return closed

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], data: dict[str, str] | None
    ) -> Deferred[Fetched]:
        asked = Deferred.fromCoroutine(self._answer(method, url, headers, data))
        asked.addTimeout(self._timeout, self._reactor)
        return asked.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Any:
        if failure.check(FetchFailed):
            return failure
        inner = _inner(failure)
        if isinstance(inner, DeferredTimeout | CancelledError):
            raise FetchFailed(f"no whole answer in {self._timeout:g} s") from None
        if self._refused:
            address, self._refused = self._refused, ""
            raise FetchFailed(f"its name leads to {address}, which is never asked") from None
        raise FetchFailed(_told(inner)) from None

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], data: dict[str, str] | None
    ) -> Fetched:
        self.prepare()
        try:
            response = await self._sent(method, url, headers, data)
        except Exception as error:
            lost = isinstance(_inner(Failure(error)), ConnectionDone | ConnectionLost)
            # A kept connection may have been closed as we spoke; what we ask changes nothing.
            if not lost or not self._kept:
                raise
            response = await self._sent(method, url, headers, data)
        try:
            self._look_at(response)
        except FetchFailed:
            body = _Body(0)
            response.deliverBody(body)  # which ends the connection
            body.done.addErrback(lambda _: None)
            raise
        body = _Body(self._most)
        response.deliverBody(body)
        return Fetched(await body.done, _lifetime(response.headers))

    def _sent(
        self, method: str, url: str, headers: Mapping[str, str], data: dict[str, str] | None
    ) -> Deferred[Any]:
        sent: Deferred[Any] = self._client.request(
            method, url, data=data, allow_redirects=False, unbuffered=True,
            headers={"Accept": "application/json", "User-Agent": "gateway", **headers},
        )  # fmt: skip
        return sent

    def _look_at(self, response: Any) -> None:
        if response.code in (301, 302, 303, 307, 308):
            raise FetchFailed(f"answered {response.code}: redirects are not followed")
        if response.code != 200:
            raise FetchFailed(f"answered {response.code}")
        if isinstance(response.length, int) and response.length > self._most:
            raise FetchFailed(f"answered {response.length} bytes; at most {self._most} are read")

    def _made(self) -> Any:
        # Imported late: treq takes a fifth of a second, which a gateway with one key need not pay.
        from treq.client import HTTPClient  # noqa: PLC0415
        from twisted.web.client import Agent, HTTPConnectionPool  # noqa: PLC0415
        from twisted.web.iweb import IAgent, IAgentEndpointFactory  # noqa: PLC0415
        from zope.interface import directlyProvides  # noqa: PLC0415

        pool = self._pool = HTTPConnectionPool(self._reactor, persistent=self._kept > 0)
        pool.maxPersistentPerHost = self._kept
        pool.cachedConnectionTimeout = 30
        pool.retryAutomatically = False
        endpoints = _Endpoints(self._reactor, self._signers, self._remember)
        directlyProvides(endpoints, IAgentEndpointFactory)
        plain: Any = _Plain(Agent.usingEndpointFactory(self._reactor, endpoints, pool))
        directlyProvides(plain, IAgent)
        return HTTPClient(plain)

    def _remember(self, address: str) -> None:
        self._refused = address


class _Plain:
    """An agent that asks for no compression, whatever treq adds."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any, bodyProducer: Any) -> Any:  # noqa: N803
        """As C{IAgent} has it."""
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._look_at)

    def _look_at(self, response: Any) -> Any:
        coding = response.headers.getRawHeaders(b"Content-Encoding", [])
        if any(each.strip().lower() not in (b"", b"identity") for each in coding):
            response.deliverBody(body := _Body(0))
            body.done.addErrback(lambda _: None)
            raise FetchFailed("answered compressed, unasked")
        return response


class _Endpoints:
    """Connects where it is allowed to."""

    def __init__(self, reactor: Any, signers: bytes, refused: Any) -> None:
        self._reactor = reactor
        self._signers = signers
        self._refused = refused

    def endpointForURI(self, uri: Any) -> Any:  # noqa: N802
        from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS  # noqa: PLC0415

        guarded = _guarded(self._reactor, uri.scheme == b"http", self._refused)
        host = uri.host.decode("ascii").strip("[]")
        endpoint = HostnameEndpoint(guarded, host, uri.port, CONNECT)
        if uri.scheme == b"http":
            return _Quiet(endpoint)
        return _Quiet(wrapClientTLS(client_tls(host, self._signers), endpoint))


class _Quiet:
    """An endpoint whose connections are not worth a line in the log."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def connect(self, factory: Any) -> Any:
        factory.noisy = False
        return self._endpoint.connect(factory)


def _guarded(reactor: Any, local: bool, refused: Any) -> Any:
    """The reactor, but its resolver leaves addresses out that nobody should be sent to."""
    from twisted.internet.interfaces import (  # noqa: PLC0415
        IHostnameResolver,
        IReactorPluggableNameResolver,
        IResolutionReceiver,
    )
    from zope.interface import directlyProvides, providedBy  # noqa: PLC0415

    class Receiver:
        def __init__(self, inner: Any) -> None:
            self.resolutionBegan = inner.resolutionBegan
            self.resolutionComplete = inner.resolutionComplete
            self._inner = inner

        def addressResolved(self, address: Any) -> None:  # noqa: N802
            if refused_address(address.host) or (local and not loopback_address(address.host)):
                refused(address.host)
            else:
                self._inner.addressResolved(address)

    class Resolver:
        def resolveHostName(self, receiver: Any, *args: Any, **named: Any) -> Any:  # noqa: N802
            wrapped = Receiver(receiver)
            directlyProvides(wrapped, IResolutionReceiver)
            return reactor.nameResolver.resolveHostName(wrapped, *args, **named)

    class Guarded:
        nameResolver = Resolver()

        def __getattr__(self, name: str) -> Any:
            return getattr(reactor, name)

    directlyProvides(Guarded.nameResolver, IHostnameResolver)
    guarded = Guarded()
    directlyProvides(guarded, IReactorPluggableNameResolver, providedBy(reactor))
    return guarded


class _Body(Protocol):
    """Collects up to so many bytes; more end the connection."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._most:
            self._parts.append(data)
        elif not self.done.called:
            self._abort()
            self.done.errback(FetchFailed(f"answered more than {self._most} bytes"))

    def connectionMade(self) -> None:
        if not self._most:
            self._abort()

    def connectionLost(self, reason: Failure | None = None) -> None:
        from twisted.web.client import ResponseDone  # noqa: PLC0415
        from twisted.web.http import PotentialDataLoss  # noqa: PLC0415

        if self.done.called:
            return
        # Without a length the connection's end is the body's; what was cut is no JSON then.
        if reason is not None and not reason.check(ResponseDone, PotentialDataLoss):
            self.done.errback(FetchFailed("the answer broke off"))
        else:
            self.done.callback(b"".join(self._parts))

    def _abort(self) -> None:
        # What treq hands over stands between: it can't abort, but nothing is left to be sent.
        lose = getattr(self.transport, "abortConnection", None) or getattr(
            self.transport, "loseConnection", None
        )
        if lose is not None:
            lose()


_MAX_AGE = re.compile(r'max-age="?([0-9]{1,10})"?')


def _lifetime(headers: Any) -> float | None:
    """Cache-Control (RFC 9111 section 4.2), less the time spent in others' caches."""
    said = b",".join(headers.getRawHeaders(b"Cache-Control", [])).decode("latin-1").lower()
    directives = [each.strip() for each in said.split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    for directive in directives:
        match = _MAX_AGE.fullmatch(directive)
        if match is not None:
            age = headers.getRawHeaders(b"Age", [b"0"])[0].strip()
            spent = int(age) if re.fullmatch(rb"[0-9]{1,10}", age) else 0
            return float(max(0, int(match[1]) - spent))
    return None


def _inner(failure: Failure) -> BaseException:
    """What has happened: C{ResponseFailed} and the like hold others."""
    found: Any = failure.value
    while reasons := getattr(found, "reasons", None):
        found = reasons[0].value
    error: BaseException = found
    return error


def _told(error: BaseException) -> str:
    """Its sentence, in one line of a bounded length."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
