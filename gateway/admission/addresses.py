# -*- test-case-name: tests.admission.test_addresses -*-
"""
Addresses and sets of networks: lets an address in that is allowed and not denied;
everything else, and whatever is no address where one is asked for, is refused (403).

IPv4-mapped IPv6 addresses are the IPv4 addresses they map, everywhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

_MAPPED = 0xFFFF << 32


class Address:
    """
    A client's address.

    @ivar text: canonical; C{unix} for a UNIX socket's peer, C{unknown} for no address.
    @ivar version: 4 or 6; 0 where there is no address.
    @ivar value: the address as an integer.
    @ivar limit_key: what it counts as: IPv6 by /64, which is one customer.
    @ivar trusted: whether a UNIX peer is trusted, and so allowed where C{allow} is set.
    """

    __slots__ = ("limit_key", "text", "trusted", "value", "version")

    def __init__(self, text: str, version: int, value: int, trusted: bool = False) -> None:
        self.text = text
        self.version = version
        self.value = value
        self.trusted = trusted
        if version == 6:
            network = ipaddress.IPv6Address(value >> 64 << 64)
            self.limit_key = f"ip:{network}/64"
        else:
            self.limit_key = f"ip:{text}"

    def __repr__(self) -> str:
        return f"<Address {self.text}>"


UNIX = Address("unix", 0, 0)
UNIX_TRUSTED = Address("unix", 0, 0, trusted=True)
UNKNOWN = Address("unknown", 0, 0)


def parse(text: str) -> Address | None:
    """An address in text without a port, or C{None}; zones (C{fe80::1%eth0}) are dropped."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return Address(str(parsed), parsed.version, int(parsed))


class Networks:
    """
    A set of networks; membership costs one look-up for each prefix length in use.

    @raise ValueError: for what is no network, or has bits set behind its prefix.
    """

    __slots__ = ("_masks", "_sets")

    def __init__(self, networks: Sequence[str]) -> None:
        self._sets: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in networks:
            network = ipaddress.ip_network(text)
            version, value, shift = (
                network.version,
                int(network.network_address),
                network.max_prefixlen - network.prefixlen,
            )
            if version == 6 and network.prefixlen >= 96 and value >> 32 << 32 == _MAPPED:
                version, value = 4, value & 0xFFFFFFFF
            self._sets[version].setdefault(shift, set()).add(value >> shift)
        self._masks = {version: tuple(sets.items()) for version, sets in self._sets.items()}

    def __contains__(self, address: Address) -> bool:
        value = address.value
        return any(value >> shift in held for shift, held in self._masks.get(address.version, ()))

    def __bool__(self) -> bool:
        return any(self._masks.values())


class AddressRules:
    """
    Who may come in.

    @param allow: networks; empty: everyone.
    @param deny: networks; they win over C{allow}.
    @ivar open: nobody is kept out; callers may skip L{admits}.
    """

    __slots__ = ("_allow", "_deny", "open")

    def __init__(self, allow: Sequence[str], deny: Sequence[str]) -> None:
        self._allow = Networks(allow)
        self._deny = Networks(deny)
        self.open = not self._allow and not self._deny

    def admits(self, address: Address | None) -> bool:
        """Whether the address may come in. No address never fits C{allow}."""
        if self.open:
            return True
        if address is None or not address.version:
            return not self._allow or (address is not None and address.trusted)
        if address in self._deny:
            return False
        return not self._allow or address in self._allow
