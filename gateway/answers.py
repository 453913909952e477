# -*- test-case-name: tests.test_answers -*-
"""
The one place that writes the gateway's own answers: refusals as JSON in the contract's
words, and the few positive ones (preflight, health).

Nothing about the inside leaves through here: a refusal says its public sentence and
the request's identifier.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.web.server import NOT_DONE_YET

from gateway.exchange import Exchange, request_id_line
from gateway.shadow import joined
from gateway.verdicts import Reason, Refused

_COMMON = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
_BODIES = {
    reason: b'{"error": "%s", "request_id": "' % reason.sentence.encode("ascii")
    for reason in Reason
}

#: Reasons after which the connection is not used again: what follows can't be trusted.
_CLOSING = frozenset(reason for reason in Reason if reason.code in (
    "request", "path", "authorization_repeated", "credentials", "request_timeout", "body_size",
))  # fmt: skip

#: The parser's statuses and their reasons.
FAULTS = {
    400: Reason.BAD_REQUEST,
    408: Reason.REQUEST_TIMEOUT,
    414: Reason.URI_TOO_LONG,
    431: Reason.FIELDS_TOO_LARGE,
    500: Reason.INTERNAL,
    501: Reason.NOT_IMPLEMENTED,
    505: Reason.HTTP_VERSION,
}


class _Dated:
    """The Date line (RFC 9110 section 6.6.1), made once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """For now."""
        second = int(time.time())
        if second != self._second:
            day = time.gmtime(second)
            text = (
                f"Date: {_DAYS[day.tm_wday]}, {day.tm_mday:02} {_MONTHS[day.tm_mon - 1]} "
                f"{day.tm_year} {day.tm_hour:02}:{day.tm_min:02}:{day.tm_sec:02} GMT\r\n"
            )
            self._second, self._line = second, text.encode("ascii")
        return self._line


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_dated = _Dated()


def refuse(face: Any, exchange: Exchange, refused: Refused) -> int:
    """Answer a refusal and note its reason for the audit."""
    reason = refused.reason
    exchange.reason = reason.code
    told = refused.lines
    if exchange.challenge is not None and reason.status == 401:
        told = exchange.challenge(told)
    lines, before, behind = pieces(refused, told)
    identifier = exchange.request_id or request_id_line()[14:50]
    for more in (refused.detail, refused.limit):
        if more:
            exchange.detail = joined(exchange.detail, more)
    face.answer(reason.status, lines, before + identifier + behind, close=reason in _CLOSING)
    return NOT_DONE_YET


def pieces(refused: Refused, told: bytes) -> tuple[bytes, bytes, bytes]:
    """A refusal's header lines, C{told} among them; its body before the identifier, and behind."""
    lines = _dated.line() + _COMMON + told
    if refused.retry_after is not None:
        lines += b"Retry-After: %d\r\n" % refused.retry_after
    behind = b'"}'
    if refused.limit:
        # The names are the settings' own: nothing in them needs an escape.
        behind = b'", "limit": "%s"}' % refused.limit.encode("ascii")
    return lines, _BODIES[refused.reason], behind


def grant(face: Any, lines: bytes, body: bytes = b"") -> int:
    """Answer 200."""
    face.answer(200, _dated.line() + lines, body)
    return NOT_DONE_YET


def fault(status: int) -> bytes:
    """The whole answer to a request that never became one; the connection closes after it."""
    reason = FAULTS[status]
    line = request_id_line()
    body = _BODIES[reason] + line[14:50] + b'"}'
    return b"".join(
        (
            b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES[status]),
            _dated.line(),
            _COMMON,
            line,
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body),
            body,
        )
    )


_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    505: b"HTTP Version Not Supported",
}
