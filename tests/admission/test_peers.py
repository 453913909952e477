"""Tests for gateway.admission.peers: whose address counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.addresses import Address
from gateway.admission.peers import MAX_HOPS, TrustedProxies, forwarded_lines
from gateway.verdicts import Reason, Refused

NETS = ["10.0.0.0/8", "::1"]
XFF = TrustedProxies(NETS, "X-Forwarded-For")
FORWARDED = TrustedProxies(NETS, "Forwarded")
REAL = TrustedProxies(NETS, "X-Real-IP")


def client(proxies: TrustedProxies, peer: str | None, *values: bytes) -> str:
    """The client's text, or the refusal's code."""
    found = proxies.client(peer, values)
    return found.reason.code if isinstance(found, Refused) else found.text


@pytest.mark.parametrize("value", [b"1.1.1.1", b"10.1.1.1", b"garbage", b"unknown", b""])
def test_row_12_untrusted_peers_are_themselves(value: bytes) -> None:
    """Row 12 (CVE-2022-24112): what an untrusted peer says is not looked at."""
    for proxies in (XFF, FORWARDED, REAL, TrustedProxies([], "X-Forwarded-For")):
        assert client(proxies, "203.0.113.9", value) == "203.0.113.9"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((b"6.6.6.6, 1.2.3.4",), "1.2.3.4"),
        ((b"6.6.6.6, 1.2.3.4, 10.2.2.2",), "1.2.3.4"),
        ((b"6.6.6.6", b"1.2.3.4", b"10.2.2.2"), "1.2.3.4"),
        ((b"10.3.3.3, 10.2.2.2",), "10.3.3.3"),
        ((b"1.2.3.4:5678",), "1.2.3.4"),
        ((b"[2001:db8::1]:5678",), "2001:db8::1"),
        ((b"2001:db8::1",), "2001:db8::1"),
        ((b"::ffff:1.2.3.4",), "1.2.3.4"),
        ((b"rubbish, 1.2.3.4",), "1.2.3.4"),
        ((b"1.2.3.4, rubbish",), "client_address"),
        ((b"1.2.3.4,",), "client_address"),
        ((b"1.2.3.4, unknown",), "unknown"),
        ((), "10.1.1.1"),
    ],
)
def test_row_12_walk_from_the_right(values: tuple[bytes, ...], expected: str) -> None:
    """Row 12: the first hop from the right that is not trusted is the client; left of it is hearsay."""
    assert client(XFF, "10.1.1.1", *values) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'for=1.1.1.1, for="[2001:db8::17]:4711";proto=http;by=_x, for=10.0.0.3', "2001:db8::17"),
        (b'For="1.2.3.4:80"', "1.2.3.4"),
        (b"for=1.2.3.4;for=5.6.7.8", "client_address"),
        (b"for=_hidden", "unknown"),
        (b"for=unknown, for=10.0.0.2", "unknown"),
        (b"proto=https", "unknown"),
        (b'for="1.2.3.4', "client_address"),
        (b"nonsense", "client_address"),
        (b"for=1.2.3.4;;", "client_address"),
    ],
)
def test_forwarded(value: bytes, expected: str) -> None:
    """RFC 7239 is read with its quoting, ports and hidden names; what can't be read is refused."""
    assert client(FORWARDED, "10.1.1.1", value) == expected


def test_single_value_headers() -> None:
    """A single-value field names the client once or not at all."""
    assert client(REAL, "10.1.1.1", b"1.2.3.4") == "1.2.3.4"
    for values in ((b"1.2.3.4", b"1.2.3.4"), (b"1.2.3.4, 5.6.7.8",), (b"x",), (b"",)):
        assert client(REAL, "10.1.1.1", *values) == "client_address"


def test_unix_peers() -> None:
    """A UNIX peer is `unix`, and trusted only when the list says unix."""
    assert client(XFF, None, b"1.2.3.4") == "unix"
    trusting = TrustedProxies(["unix"], "X-Forwarded-For")
    assert trusting.trusts(None)
    assert client(trusting, None, b"1.2.3.4") == "1.2.3.4"
    assert not XFF.trusts(None)


def test_hops_are_bounded() -> None:
    """An endless list is looked at from its end only."""
    assert client(XFF, "10.1.1.1", b"1.2.3.4" + b", 10.0.0.1" * (MAX_HOPS + 50)) == "10.0.0.1"


@given(st.binary(max_size=80), st.sampled_from([XFF, FORWARDED, REAL]))
def test_any_bytes_are_a_verdict(value: bytes, proxies: TrustedProxies) -> None:
    """Whatever a trusted proxy sends, it is an address, unknown, or a refusal."""
    found = proxies.client("10.1.1.1", [value])
    assert isinstance(found, Address) or found.reason is Reason.CLIENT_ADDRESS


def test_outgoing_lines() -> None:
    """A trusted peer's fields are kept and added to, any other's set afresh."""
    came = [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"shop.example")]
    assert forwarded_lines(True, "10.1.1.1", b"http", b"h", came) == (
        b"X-Forwarded-For: 1.2.3.4, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n"
    )
    fresh = b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
    assert forwarded_lines(False, "9.9.9.9", b"http", b"h", came) == fresh
    odd = [(b"x-forwarded-proto", b"gopher"), (b"x-forwarded-host", b"a b")]
    assert forwarded_lines(True, "9.9.9.9", b"http", b"h", odd) == fresh
