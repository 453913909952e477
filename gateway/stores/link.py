# -*- test-case-name: tests.stores.test_link -*-
"""
A connection to the store that is kept: made again when it is lost, soon and at random
moments, so that a store that comes back is not met by all gateways at once.

Lets a server in that answers the greeting (user, password, database; through sentinels
also that it is the master) in time; drops any other and tries again.

Import this late: txredisapi imports the global reactor, which installs one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import txredisapi  # type: ignore[import-untyped]
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from gateway.interfaces import StoreUnreachable
from gateway.stores.url import StoreAddress
from gateway.trust import client_tls, signers_of

#: Seconds for connecting and greeting, and of them for asking one sentinel.
SETUP, SENTINEL = 1.0, 0.5

#: Seconds before the next attempt: from the first to the last, each less up to a half.
FIRST_REST, LAST_REST = 0.05, 0.5


class Connection(txredisapi.RedisProtocol):
    """
    Speaks with the server: bytes come back as bytes.

    @ivar on_lost: called once with why, when the connection has gone.
    @ivar stuck: since when the oldest answer is overdue, or C{None}.
    @ivar ended: why it has gone.
    """

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.on_lost: Callable[[str], object] | None = None
        self.stuck: float | None = None
        self.ended: Failure | None = None

    def connectionMade(self) -> None:
        """No call waits for the one before it."""
        super().connectionMade()
        no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)

    def ask(self, data: bytes, waiter: Any) -> None:
        """Send a command; the reply, or an exception, goes to C{waiter.callback}."""
        # txredisapi's own way costs five Deferreds for a call.
        self.replyQueue.waiting.append(waiter)
        self.transport.write(data)

    def abort(self) -> None:
        """End it now."""
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, why: Failure) -> None:
        """Everybody who waits is told, then the owner."""
        self.ended = why
        super().connectionLost(why)
        if self.on_lost is not None:
            self.on_lost(why.getErrorMessage())


class Link:
    """
    @param welcome: called with the connection each time there is one.
    @param lost: called with the reason when it is lost, or could not be made.
    @ivar connection: the one there is, or C{None}.
    """

    def __init__(
        self,
        reactor: Any,
        address: StoreAddress,
        ca_file: str,
        welcome: Callable[[Connection], object],
        lost: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._ca_file = ca_file
        self._welcome = welcome
        self._lost = lost
        self._failures = 0
        self._opening: Deferred[Any] | None = None
        self._rest: Any = None
        self._running = False
        self._made: Connection | None = None
        self.connection: Connection | None = None

    def start(self) -> None:
        """Connect, and go on doing so."""
        self._running = True
        self._open()

    def stop(self) -> None:
        """Connect no more; drop what there is."""
        self._running = False
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._opening is not None:
            self._opening.cancel()
        self.drop()

    def drop(self) -> None:
        """End this connection; a new one is made."""
        if self.connection is not None:
            self.connection.abort()

    def _open(self) -> None:
        self._rest = None
        attempt = self._opening = Deferred.fromCoroutine(self._greeted())
        attempt.addTimeout(SETUP, self._reactor)
        attempt.addCallbacks(self._opened, self._failed)

    async def _greeted(self) -> Connection:
        self._made = None
        connection = await connect(self._reactor, self._address, self._ca_file, self._making)
        await _greet(connection, self._address)
        return connection

    def _making(self, connection: Connection) -> None:
        self._made = connection

    def _opened(self, connection: Connection) -> None:
        self._opening = None
        if not connection.connected:
            self._failed(Failure(StoreUnreachable("the connection was closed")))
            return
        self._failures = 0
        self.connection = connection
        connection.on_lost = self._gone
        self._welcome(connection)

    def _gone(self, why: str) -> None:
        self.connection = None
        self._again(why)

    def _failed(self, failure: Failure) -> None:
        self._opening = None
        made = self._made
        if made is not None:
            made.abort()
            if made.ended is not None and failure.check(txredisapi.ConnectionError):
                failure = made.ended  # it knows better, as when the certificate is not valid
        self._again(_sentence(failure))

    def _again(self, why: str) -> None:
        if not self._running:
            return
        rest = min(LAST_REST, FIRST_REST * 2 ** min(self._failures, 10))
        self._failures += 1
        # Before the rest: whoever is told may stop us.
        self._rest = self._reactor.callLater(rest * random.uniform(0.5, 1.0), self._open)  # noqa: S311
        self._lost(why)


def _sentence(failure: Failure) -> str:
    """Why; the server's own words are cut and made printable."""
    if failure.check(txredisapi.ResponseError):
        return said(failure.value)
    if failure.check(defer.TimeoutError):
        return f"it can't be reached, or does not answer the greeting, within {SETUP:g} s"
    name, text = type(failure.value).__name__, failure.getErrorMessage()
    return text if failure.check(StoreUnreachable) else f"{name}: {text[:200]}"


def said(error: Any) -> str:
    """The server's error, printable and short."""
    text = str(error)[:120]
    return "it says " + "".join(c if c.isprintable() else "?" for c in text)


async def _greet(connection: Connection, address: StoreAddress) -> None:
    execute = connection.execute_command
    if address.password:
        user = (address.username,) if address.username else ()
        try:
            await execute("AUTH", *user, address.password)
        except txredisapi.ResponseError:
            # Its words may repeat the password.
            raise StoreUnreachable("it refuses the user and password") from None
    if address.database:
        await execute("SELECT", address.database)
    if address.service:
        role = await execute("ROLE")
        if role[0] != b"master":
            raise StoreUnreachable("the sentinels' answer is no master")


async def connect(
    reactor: Any, address: StoreAddress, ca_file: str, made: Callable[[Connection], object]
) -> Connection:
    """A connection, not yet greeted; C{made} is told of it before anything can go wrong."""
    if address.path:
        endpoint: Any = UNIXClientEndpoint(reactor, address.path, timeout=SETUP)
    elif address.service:
        endpoint = _tcp(reactor, *await _ask_sentinels(reactor, address))
    else:
        ((host, port),) = address.hosts
        endpoint = _tcp(reactor, host, port)
        if address.tls:
            endpoint = wrapClientTLS(client_tls(host, signers_of(ca_file)), endpoint)
    connection: Connection = await endpoint.connect(_factory(made))
    return connection


def _factory(made: Callable[[Connection], object]) -> Any:
    def build() -> Connection:
        connection = Connection()
        made(connection)
        return connection

    factory: Any = Factory.forProtocol(build)
    factory.noisy = False
    return factory


def _tcp(reactor: Any, host: str, port: int) -> Any:
    if host.replace(".", "").isdigit():
        return TCP4ClientEndpoint(reactor, host, port, timeout=SETUP)
    return HostnameEndpoint(reactor, host, port, timeout=SETUP)


async def _ask_sentinels(reactor: Any, address: StoreAddress) -> tuple[str, int]:
    """Where the master is now; the first sentinel that knows is believed."""
    for host, port in address.hosts:
        found: list[Connection] = []
        try:
            asking = Deferred.fromCoroutine(
                _ask_sentinel(_tcp(reactor, host, port), address.service, found)
            )
            reply = await asking.addTimeout(SENTINEL, reactor)
        except Exception:  # noqa: S112, PERF203 - the next one may be better
            continue
        finally:
            for connection in found:
                connection.abort()
        if isinstance(reply, list) and len(reply) == 2:
            return reply[0].decode("ascii"), int(reply[1])
    raise StoreUnreachable("no sentinel knows the master")


async def _ask_sentinel(endpoint: Any, service: str, found: list[Connection]) -> Any:
    connection = await endpoint.connect(_factory(found.append))
    return await connection.execute_command("SENTINEL", "get-master-addr-by-name", service)
