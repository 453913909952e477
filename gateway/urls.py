# -*- test-case-name: tests.test_urls -*-
"""
Where the gateway may ask for keys: lets in https everywhere and http on this machine alone;
refuses addresses that only a machine's own cloud answers at, whatever name leads there.

Private networks are allowed: identity providers live there. Link-local addresses, the known
addresses of cloud metadata, multicast and unspecified ones never are.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

#: Metadata services outside the link-local networks.
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)


def refused_address(text: str) -> bool:
    """Whether nothing is ever fetched from that IP address."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if inner is not None:
            address = inner
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address == ipaddress.IPv4Address("255.255.255.255")
        or (address.version == 4 and address in ipaddress.IPv4Network("0.0.0.0/8"))
        or address in _METADATA
    )


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in ipaddress.IPv6Network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def loopback_address(text: str) -> bool:
    """Whether the IP address is this machine's own."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def safe_url(text: str, secure: bool = False) -> SplitResult:
    """
    The parts of a URL that may be asked.

    @param secure: https only, even on this machine.
    @raise ValueError: with a sentence that says what was expected.
    """
    expected = "a URL such as https://login.example/keys"
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(expected)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(expected) from None
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or not host or "@" in url.netloc or port == 0:
        raise ValueError(expected)
    if "#" in text or url.netloc.endswith(":") or not _plain_host(host):
        raise ValueError(expected)
    if url.scheme == "http" and (secure or not (host == "localhost" or loopback_address(host))):
        raise ValueError("https; http is for 127.0.0.1, ::1 and localhost alone")
    if _is_address(host) and refused_address(host):
        raise ValueError(f"{host} is an address that is never asked")
    return url


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _plain_host(host: str) -> bool:
    # All digits and dots, or hexadecimal, but no address: some resolvers would find one there.
    if _is_address(host):
        return "%" not in host
    last = host.rstrip(".").rpartition(".")[2]
    numeric = last.isdigit() or last.startswith("0x")
    return not numeric and all(c.isalnum() or c in "-._" for c in host)
