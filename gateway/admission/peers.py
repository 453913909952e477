# -*- test-case-name: tests.admission.test_peers -*-
"""
Whose address counts: lets the word of a trusted proxy stand for its client's address;
an untrusted peer is its own client, whatever it says (CVE-2022-24112). A trusted proxy
that names its client in a way nobody can read is refused with 400.

C{X-Forwarded-For} and C{Forwarded} (RFC 7239) are walked from the right, through trusted
networks only: each proxy appends whom it was called by, so everything left of the first
untrusted hop is hearsay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.admission.addresses import (
    UNIX,
    UNIX_TRUSTED,
    UNKNOWN,
    Address,
    Networks,
    parse,
)
from gateway.verdicts import Reason, Refused

#: Hops looked at; a longer list comes from nobody's proxies.
MAX_HOPS = 100

#: Peers whose parsed address is remembered.
_MEMO = 65536

_UNREADABLE = Refused(Reason.CLIENT_ADDRESS)

#: RFC 7239 section 4: pairs of a token and a token or quoted string, between semicolons.
_PAIR = re.compile(
    r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)="
    r'(?:"((?:[^"\\\x00-\x1f]|\\.)*)"|([!#$%&\'*+\-.^_`|~0-9A-Za-z:\[\]]+))[ \t]*(;|,|$)'
)


class TrustedProxies:
    """
    @param networks: networks, and C{unix} for peers on a UNIX socket.
    @param header: the one field in which these name the client.
    """

    def __init__(self, networks: Sequence[str], header: str) -> None:
        self._unix = "unix" in networks
        self._networks = Networks([text for text in networks if text != "unix"])
        self._header = header.lower()
        self._none = not networks
        self._seen: dict[str, tuple[Address, bool]] = {}
        #: The addresses of peers that are their own clients, as far as they are known by now.
        self.direct: dict[str | None, Address] = {}

    def trusts(self, peer: str | None) -> bool:
        """Whether the socket's peer (C{None}: a UNIX socket) is a trusted proxy."""
        if self._none:
            return False
        return self._unix if peer is None else self._peer(peer)[1]

    def client(self, peer: str | None, values: Sequence[bytes]) -> Address | Refused:
        """
        The client's address.

        @param values: the header's field values in their order; looked at only when the
            peer is trusted.
        """
        if peer is None:
            address, trusted = (UNIX_TRUSTED, True) if self._unix else (UNIX, False)
        else:
            address, trusted = self._peer(peer)
        if not trusted or not values:
            return address
        if self._header == "forwarded":
            hops = _forwarded_hops(values)
        elif self._header == "x-forwarded-for":
            text = b",".join(values).decode("latin-1")
            hops = [hop.strip(" \t") for hop in text.split(",")]
        else:
            named = parse(_without_port(values[0].decode("latin-1").strip(" \t")))
            return named if len(values) == 1 and named is not None else _UNREADABLE
        return self._walk(address, hops) if hops else _UNREADABLE

    def _walk(self, address: Address, hops: list[str]) -> Address | Refused:
        """From the right: the first hop that is not trusted is the client."""
        for text in reversed(hops[-MAX_HOPS:]):
            hop = parse(_without_port(text))
            if hop is None:
                # Hidden on purpose (RFC 7239 section 6) or rubbish: whoever a trusted proxy
                # can't name must not share its address with all the others.
                return UNKNOWN if _hidden(text) else _UNREADABLE
            address = hop
            if hop not in self._networks:
                return hop
        return address

    def _peer(self, peer: str) -> tuple[Address, bool]:
        known = self._seen.get(peer)
        if known is None:
            address = parse(peer) or UNKNOWN
            known = (address, address.version > 0 and address in self._networks)
            if len(self._seen) >= _MEMO:
                self._seen.clear()
                self.direct.clear()
            self._seen[peer] = known
            if not known[1]:
                self.direct[peer] = address
        return known


def _hidden(text: str) -> bool:
    return text.lower() == "unknown" or re.fullmatch(r"_[A-Za-z0-9._-]+", text) is not None


def _without_port(text: str) -> str:
    """C{192.0.2.1:4711} and C{[2001:db8::1]:4711} are addresses with a port."""
    if text.startswith("["):
        inner, closed, port = text[1:].partition("]")
        if closed and (not port or (port[0] == ":" and port[1:].isdigit())):
            return inner
        return ""
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host if port.isdigit() else ""
    return text


def _forwarded_hops(values: Sequence[bytes]) -> list[str]:
    """The C{for} of each element; none of them where one element can't be read."""
    text = b",".join(values).decode("latin-1")
    hops: list[str] = []
    named: str | None = None
    at = 0
    while at <= len(text):
        match = _PAIR.match(text, at)
        if match is None:
            return []
        name, quoted, token, end = match.groups()
        if name.lower() == "for":
            if named is not None:
                return []
            named = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
        if end != ";":
            hops.append(named if named is not None else "unknown")
            named = None
        at = match.end()
        if end == "":
            break
    return hops


def forwarded_lines(
    trusted: bool, peer: str, proto: bytes, host: bytes, came: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """
    The X-Forwarded lines for the upstream: a trusted peer's are kept and added to, any
    other's are set afresh.

    @param proto: how the client came to us: C{http} or C{https}.
    @param came: (lower-case name, value) of the forwarding fields the request had.
    """
    chain = peer.encode("ascii", "replace")
    if trusted:
        kept = {name: value for name, value in came if name in _KEPT}
        before = [value for name, value in came if name == b"x-forwarded-for"]
        if before:
            chain = b", ".join((*before, chain))
        first = kept.get(b"x-forwarded-proto", proto)
        proto = first if first.lower() in (b"http", b"https") else proto
        named = kept.get(b"x-forwarded-host", host)
        host = named if _HOST.fullmatch(named) is not None else host
    return b"X-Forwarded-For: %s\r\nX-Forwarded-Proto: %s\r\n" % (chain, proto) + (
        b"X-Forwarded-Host: %s\r\n" % host if host else b""
    )


_KEPT = frozenset((b"x-forwarded-proto", b"x-forwarded-host"))
_HOST = re.compile(rb"[A-Za-z0-9.\-_~\[\]:]{1,260}")
