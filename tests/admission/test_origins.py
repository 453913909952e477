"""Tests for gateway.admission.origins."""

from __future__ import annotations

from gateway.admission.origins import CorsRules


def rules(*origins: str) -> CorsRules:
    """Rules for origins."""
    return CorsRules(True, origins, ["GET", "PUT"], ["Authorization"], ["X-Request-ID"], 60)


def test_anybody() -> None:
    """A star is told to everybody, whatever the origin."""
    for origin in (None, b"https://a.example", b"\x00"):
        assert rules("*").preflight(origin) == (
            b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET, PUT\r\n"
            b"Access-Control-Allow-Headers: Authorization\r\nAccess-Control-Max-Age: 60\r\n"
        )
        assert rules("*").lines(origin) == b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Request-ID\r\n"


def test_a_list() -> None:
    """The matching origin is echoed; any other gets none; caches are told that answers vary."""
    some = rules("https://a.example", "https://b.example")
    assert b"Access-Control-Allow-Origin: https://b.example\r\nVary: Origin\r\n" in some.lines(b"https://b.example")
    for other in (b"https://c.example", b"https://a.example.evil", b"https://a.exampl", b"null", None, b"*"):
        assert b"Allow-Origin" not in some.lines(other)
        assert b"Vary: Origin\r\n" in some.lines(other)
