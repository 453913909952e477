# -*- test-case-name: tests.admission.test_windows -*-
"""
How a count is told to a client: one template of header lines for each window, made once,
filled in for each answer. Lets only names in that need no escape; decides nothing.

Beside X-RateLimit-* stand RateLimit-Policy and RateLimit of
draft-ietf-httpapi-ratelimit-headers (structured fields, RFC 9651).
"""

from __future__ import annotations

_SECOND = 1_000_000
_UNITS = ((86_400 * _SECOND, "d"), (3600 * _SECOND, "h"))

#: Takes two more values and tells nothing: without the draft's fields the same values fit.
_SILENT = b"%.0a%.0a"


def amount(limit: int, window: int) -> str:
    """A window as it is named: C{100/60s}, C{5000/1d}; C{window} is microseconds."""
    for length, unit in _UNITS:
        if window % length == 0:
            return f"{limit}/{window // length}{unit}"
    return f"{limit}/{window / _SECOND:.6f}".rstrip("0").rstrip(".") + "s"


def policy(label: str, limit: int, window: int) -> bytes:
    """An item of RateLimit-Policy; the window in whole seconds, rounded up."""
    return b'"%s";q=%d;w=%d' % (label.encode("ascii"), limit, -(-window // _SECOND))


def template(label: str, limit: int, policies: bytes, ietf: bool) -> bytes:
    """
    The header lines of one window, to be filled in with (remaining, reset, remaining, seconds
    until the reset).

    @param policies: the value of RateLimit-Policy.
    @param ietf: whether the draft's fields are told.
    """
    lines = (
        b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %%d\r\nX-RateLimit-Reset: %%d\r\n" % limit
    )
    if not ietf:
        return lines + _SILENT
    return lines + b'RateLimit-Policy: %s\r\nRateLimit: "%s";r=%%d;t=%%d\r\n' % (
        policies,
        label.encode("ascii"),
    )
