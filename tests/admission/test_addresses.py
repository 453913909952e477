"""Tests for gateway.admission.addresses, with the ipaddress module as oracle."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.admission.addresses import (
    UNIX,
    UNIX_TRUSTED,
    UNKNOWN,
    Address,
    AddressRules,
    Networks,
    parse,
)


def address(text: str) -> Address:
    """An address that must be one."""
    found = parse(text)
    assert found is not None
    return found


ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
nets = st.one_of(
    st.builds(lambda ip, n: ipaddress.ip_network((ip, n), strict=False), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda ip, n: ipaddress.ip_network((ip, n), strict=False), st.ip_addresses(v=6), st.integers(0, 128)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(nets, max_size=8), ips)
def test_membership(networks: list[ipaddress.IPv4Network], ip: object) -> None:
    """An address is in the set exactly when it is in one of the networks."""
    # A mapped address is an IPv4 one, so no IPv6 network holds it unless it is mapped itself.
    assume(getattr(ip, "ipv4_mapped", None) is None)
    assume(not any(net.version == 6 and net.prefixlen >= 96 and int(net[0]) >> 32 == 0xFFFF for net in networks))
    expected = any(ip in net for net in networks)
    assert (address(str(ip)) in Networks([str(net) for net in networks])) is expected


@settings(max_examples=200, deadline=None)
@given(nets, st.integers(0, 1 << 128))
def test_members_of_a_network(network: ipaddress.IPv4Network, seed: int) -> None:
    """Any address of a network is in it."""
    ip = network[seed % network.num_addresses]
    assume(getattr(ip, "ipv4_mapped", None) is None or network.prefixlen >= 96)
    assert address(str(ip)) in Networks([str(network)])


def test_row_12_mapped_addresses() -> None:
    """Row 12: an IPv4-mapped IPv6 address is the IPv4 address, in requests and in networks."""
    assert address("::ffff:192.0.2.1").text == "192.0.2.1"
    assert address("::ffff:192.0.2.1") in Networks(["192.0.2.0/24"])
    assert address("192.0.2.1") in Networks(["::ffff:192.0.2.0/120"])
    assert address("::192.0.2.1") not in Networks(["192.0.2.0/24"])


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4/8", "g::1", " 1.2.3.4", "1.2.3.4\n", "localhost", "1.2.3.4%x"])
def test_no_addresses(text: str) -> None:
    """What is no address in its one spelling is none."""
    assert parse(text) is None


def test_exact_string_set_of_the_original() -> None:
    """The original compared networks as text, so its allow list let nobody in."""
    rules = AddressRules(["203.0.113.0/24"], [])
    assert rules.admits(address("203.0.113.9"))
    assert not rules.admits(address("203.0.114.9"))


def test_deny_wins() -> None:
    """What is denied is refused though it is allowed."""
    rules = AddressRules(["10.0.0.0/8"], ["10.66.0.0/16"])
    assert [rules.admits(address(text)) for text in ("10.1.1.1", "10.66.1.1", "11.1.1.1")] == [True, False, False]
    assert AddressRules([], ["10.0.0.0/8"]).admits(address("11.0.0.1"))


def test_who_has_no_address() -> None:
    """A UNIX peer or an unknown client never fits an allow list, unless it is a trusted one."""
    rules = AddressRules(["0.0.0.0/0", "::/0"], [])
    assert [rules.admits(each) for each in (UNIX, UNKNOWN, None, UNIX_TRUSTED)] == [False, False, False, True]
    assert AddressRules([], []).open
    assert AddressRules([], []).admits(UNIX)


def test_limit_keys() -> None:
    """IPv4 counts by address, IPv6 by /64."""
    assert address("192.0.2.1").limit_key == "ip:192.0.2.1"
    assert address("2001:db8:1:2:3::9").limit_key == address("2001:db8:1:2::1").limit_key
    assert address("2001:db8:1:3::1").limit_key != address("2001:db8:1:2::1").limit_key


def test_host_bits() -> None:
    """A network with bits set behind its prefix is an error, not a guess."""
    with pytest.raises(ValueError, match="host bits"):
        Networks(["10.0.0.1/8"])
