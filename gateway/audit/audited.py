# -*- test-case-name: tests.audit.test_audited -*-
"""
Lets every request through, and remembers it: one row for each when its answer has ended,
refusals and cut answers included.

The outermost stage: it gives the request its identifier and puts C{X-Request-ID} and
C{X-Response-Time} on the answer. It never delays and never fails a request: a row is
one append to a list that the writer's thread empties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.web.resource import IResource

from gateway.answers import FAULTS
from gateway.audit.record import IAuditLog
from gateway.exchange import Exchange, exchange_of, request_id_line
from gateway.http.request import Request
from gateway.shell import Shell

#: What the audit calls the status of an answer that never began (as nginx does).
CLIENT_CLOSED_REQUEST = 499

#: Ready-made lines of the times that most answers take.
_READY = 1000
_LINE = b"X-Response-Time: %dms\r\n"
TOOK = tuple(_LINE % took for took in range(_READY))


def agent_of(noted: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The client's program, as it calls itself."""
    agent = None
    for name, value in noted:
        if name == b"user-agent":
            agent = value
    return agent


class Audited(Shell):
    """
    The wrapper around C{inner}.

    @param clock: monotonic seconds.
    @param now: the wall clock, unix seconds.
    """

    def __init__(
        self,
        inner: IResource,
        log: IAuditLog,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._append = log.append
        self._clock = clock
        self._now = now

    def render(self, request: Any) -> Any:
        """Begin the exchange; write its row at the end."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        exchange.request_id_line = line = request_id_line()
        exchange.started = self._clock()
        exchange.began = self._now()
        face.add_lines(line)
        face.stamp = self.stamp
        face.on_end = self.ended
        return self._inner.render(request)

    def stamp(self, face: Any) -> bytes:
        """X-Response-Time, as the answer's head is written."""
        took = int((self._clock() - face.exchange.started) * 1000)
        return TOOK[took] if took < _READY else _LINE % took

    def ended(self, face: Any, why: str) -> bytes:
        """
        The answer has ended, for the reason C{why} if it was not whole: write the row.

        @return: what L{stamp} would say.
        """
        exchange: Exchange = face.exchange
        duration = self._clock() - exchange.started
        identity, address, terms = exchange.identity, exchange.address, exchange.terms
        head = face.head
        plan = head.plan
        status, reason = face.code, exchange.reason
        if why == "fault":
            fault = FAULTS.get(status)
            reason = fault.code if fault is not None else why
        elif why:
            reason = reason or why
            if not face.started:
                status = CLIENT_CLOSED_REQUEST
        body = face.body
        self._append(
            (
                exchange.began,
                duration,
                identity.user if identity is not None else None,
                face.method,
                exchange.path or head.target.partition(b"?")[0],
                status,
                address.text if address is not None else "unknown",
                plan.agent if plan is not None else agent_of(head.noted),
                exchange.request_id_line[14:50],
                terms.route if terms is not None else "",
                exchange.upstream,
                reason,
                body.received if body is not None else 0,
                face.bytes_out,
                exchange.detail,
            )
        )
        took = int(duration * 1000)
        return TOOK[took] if took < _READY else _LINE % took
