# -*- test-case-name: tests.admission.test_origins -*-
"""
What browsers are told (CORS, the Fetch standard section 3.3): lets scripts of the
configured origins read answers; others get no C{Access-Control-Allow-Origin}.
"""

from __future__ import annotations

from collections.abc import Sequence


class CorsRules:
    """
    Ready-made header lines.

    @param allow_origin: C{*}, or origins of which the matching one is echoed.
    @param max_age: seconds a browser may remember the preflight.
    """

    __slots__ = ("_any", "_exposed", "_origins", "_preflight", "_vary", "enabled")

    def __init__(
        self,
        enabled: bool,
        allow_origin: Sequence[str],
        allow_methods: Sequence[str],
        allow_headers: Sequence[str],
        expose_headers: Sequence[str],
        max_age: int,
    ) -> None:
        self.enabled = enabled
        self._any = "*" in allow_origin
        self._origins = {
            origin.encode("ascii"): _line("Access-Control-Allow-Origin", origin)
            for origin in allow_origin
        }
        self._vary = b"" if self._any else _line("Vary", "Origin")
        self._exposed = _line("Access-Control-Expose-Headers", ", ".join(expose_headers))
        self._preflight = (
            _line("Access-Control-Allow-Methods", ", ".join(allow_methods))
            + _line("Access-Control-Allow-Headers", ", ".join(allow_headers))
            + _line("Access-Control-Max-Age", str(max_age))
        )

    def preflight(self, origin: bytes | None) -> bytes:
        """The header lines of the answer to OPTIONS."""
        return self._allowed(origin) + self._preflight

    def lines(self, origin: bytes | None) -> bytes:
        """The header lines of any other answer."""
        return self._allowed(origin) + self._exposed

    def _allowed(self, origin: bytes | None) -> bytes:
        if self._any:
            return self._origins[b"*"]
        if origin is None:
            return self._vary
        return self._origins.get(origin, b"") + self._vary


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode("ascii") if value else b""
