# -*- test-case-name: tests.issuers.test_introspection -*-
"""
Asks what an opaque token is (RFC 7662). Lets requests wait for the answer, those with one
token for one answer; refuses with 503 when too many tokens wait, and while the server that
is asked has failed too often in a row.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.admission.introspection import Introspection
from gateway.issuers.fetch import Fetched, Fetcher
from gateway.settings import IntrospectionSettings
from gateway.upstream.circuits import Circuit
from gateway.verdicts import Reason, Refused

#: Bytes of an answer.
MAX_ANSWER = 64 * 1024

#: Connections kept between two questions.
KEPT = 8


class Introspector:
    """
    @param name: whose tokens they are, for the rules.
    @param seconds: monotonic seconds.
    @param now: the wall clock, unix seconds.
    @ivar known: what has been answered.
    """

    _log = Logger()

    def __init__(
        self, name: str, settings: IntrospectionSettings, fetcher: Any,
        seconds: Callable[[], float], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self.known = Introspection(
            name, settings.cache_for, settings.refused_for, settings.cache, self.ask
        )
        self._url = settings.url
        self._headers = _credentials(settings)
        self._most = settings.pending
        self._fetcher = fetcher
        self._seconds = seconds
        self._now = now
        self._circuit = Circuit(settings.failures, settings.reset_after)
        self._pending: dict[bytes, list[Deferred[None]]] = {}
        self._asking: set[Deferred[Any]] = set()
        self._told = ""

    def ask(self, raw: bytes, waited: float) -> Deferred[None] | Refused:
        """See L{gateway.admission.tokens.Unsettled}."""
        waiters = self._pending.get(raw)
        if waiters is None:
            if len(self._pending) >= self._most:
                return Refused(Reason.INTROSPECTION, 1)
            permit = self._circuit.admit(self._seconds())
            if isinstance(permit, Refused):
                return Refused(Reason.INTROSPECTION, permit.retry_after)
            waiters = self._pending[raw] = []
        else:
            permit = None
        waiter: Deferred[None] = Deferred(lambda gone: _leave(waiters, gone))
        waiters.append(waiter)
        if permit is not None:
            self._begin(raw, permit)
        return waiter

    def start(self) -> None:
        """Be ready for the first question."""
        self._fetcher.prepare()

    def stop(self) -> None:
        """Ask nobody any more; who waits is let go."""
        for asking in list(self._asking):
            asking.cancel()
        self._fetcher.close()

    def _begin(self, raw: bytes, permit: int) -> None:
        fields = {"token": raw.decode("ascii"), "token_type_hint": "access_token"}
        asking: Deferred[Any] = self._fetcher.post(self._url, fields, self._headers)
        self._asking.add(asking)

        def answered(found: Fetched) -> None:
            if self.known.answered(raw, found.body, self._now()):
                self._circuit.succeeded(permit)
                self._say("")
            else:
                self._failed(raw, permit, "no answer of RFC 7662")

        def failed(failure: Failure) -> None:
            self._failed(raw, permit, failure.getErrorMessage())

        def ended(_: object) -> None:
            self._asking.discard(asking)
            for waiter in list(self._pending.pop(raw)):
                waiter.callback(None)

        asking.addCallbacks(answered, failed)
        asking.addErrback(lambda failure: self._log.failure("an introspection failed", failure))
        asking.addBoth(ended)

    def _failed(self, raw: bytes, permit: int, says: str) -> None:
        self._circuit.failed(permit, self._seconds())
        self.known.unanswered(raw, 1, self._now())
        self._say(says)

    def _say(self, says: str) -> None:
        """An outage is logged once, and so is its end."""
        if says != self._told:
            self._told = says
            if says:
                self._log.warn("introspection: {url}: {says}", url=self._url, says=says)
            else:
                self._log.info("introspection: {url} answers again", url=self._url)


def _leave(waiters: list[Deferred[None]], gone: Deferred[None]) -> None:
    if gone in waiters:
        waiters.remove(gone)


def _credentials(settings: IntrospectionSettings) -> dict[str, str]:
    """HTTP Basic, each half encoded by itself (RFC 6749 section 2.3.1)."""
    if not settings.client_id:
        return {}
    secret = settings.client_secret.reveal().decode("utf-8", "surrogateescape")
    pair = f"{quote_plus(settings.client_id)}:{quote_plus(secret, errors='surrogateescape')}"
    return {"Authorization": "Basic " + b64encode(pair.encode("ascii")).decode("ascii")}


def introspector(
    name: str, settings: IntrospectionSettings, reactor: Any, seconds: Callable[[], float],
    now: Callable[[], float],
) -> Introspector:  # fmt: skip
    """One that asks over the network."""
    fetcher = Fetcher(reactor, settings.signers, settings.timeout, MAX_ANSWER, KEPT)
    return Introspector(name, settings, fetcher, seconds, now)
