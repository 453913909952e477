"""Tests for gateway.urls: where keys are never fetched from."""

from __future__ import annotations

import pytest

from gateway.urls import loopback_address, refused_address, safe_url


@pytest.mark.parametrize(
    "text",
    ["https://login.example/keys", "https://10.0.0.7:8443/keys", "https://[fd00::1]/k", "http://127.0.0.1:8080/k", "http://localhost/k", "http://[::1]:1/"],
)
def test_good(text: str) -> None:
    """Keys come by https from everywhere, private networks included, by http from this machine."""
    assert safe_url(text).geturl() == text


@pytest.mark.parametrize(
    "text",
    ["http://login.example/keys", "http://10.0.0.1/", "ftp://a/", "file:///etc/passwd", "https://", "https:///x", "https://user:pw@a.example/", "//a",
     "https://a.example:0/", "https://a.example:99999/", "https://a.example:/", "https://a.example/#f", "https://a b/", "https://a.example/\n", "https://ä.example/",
     "https://169.254.169.254/latest", "https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://0.0.0.0/", "https://[::]/", "https://2852039166/", "https://0xa9fea9fe/",
     "https://169.254.43518/", "https://[::ffff:169.254.169.254]/", "https://224.0.0.1/", "https://a\\b/", "https://a.example\\@b/", ""],
)  # fmt: skip
def test_bad(text: str) -> None:
    """No plain text over the network, no other schemes, no credentials, no link-local or odd address in any spelling."""
    with pytest.raises(ValueError, match=r"https|never asked"):
        safe_url(text)


def test_never_down_to_plain_text() -> None:
    """What came over https may not lead to plain http, not even on this machine."""
    with pytest.raises(ValueError, match="https"):
        safe_url("http://127.0.0.1/keys", secure=True)


@pytest.mark.parametrize(
    ("address", "refused"),
    [("169.254.169.254", True), ("fe80::1", True), ("fe80::1%eth0", True), ("febf::1", True), ("0.0.0.0", True), ("0.1.2.3", True), ("::", True), ("224.0.0.1", True),
     ("ff02::1", True), ("255.255.255.255", True), ("::ffff:169.254.1.1", True), ("64:ff9b::a9fe:a9fe", True), ("2002:a9fe:a9fe::1", True), ("fd00:ec2::254", True),
     ("100.100.100.200", True), ("168.63.129.16", True), ("nonsense", True), ("10.0.0.1", False), ("192.168.1.1", False), ("127.0.0.1", False), ("::1", False),
     ("fd00::1", False), ("192.0.2.1", False), ("2001:db8::1", False)],
)  # fmt: skip
def test_addresses(address: str, refused: bool) -> None:
    """Link-local, metadata, multicast and unspecified addresses are refused in every spelling; private ones are not."""
    assert refused_address(address) is refused


def test_loopback() -> None:
    """Which addresses are this machine's own."""
    assert [loopback_address(text) for text in ("127.9.9.9", "::1", "10.0.0.1", "x")] == [True, True, False, False]
