# -*- test-case-name: tests.routing.test_paths -*-
"""
Lets a path through that means the same to everybody; any other is refused with 400.

The one place where that is decided. Nothing is normalised: the path that is matched is
the path that is forwarded and audited, byte for byte, so a path that would become
another one by normalising is refused instead (CVE-2021-29492, CVE-2025-66490,
CVE-2021-43557, CVE-2026-26205, CVE-2026-48020). In detail:

- C{//}, and segments that are C{.} or C{..}, alone or before a C{;parameter}: refused;
- percent-encoded unreserved characters (C{%61}, C{%2e}; RFC 3986 section 6.2.2.2 calls
  them equal to the plain ones, so C{/%61pi} would be C{/api}): refused;
- C{%2F}, C{%5C}, encoded controls and DEL, overlong UTF-8 (C{%C0%AE}): refused;
- C{%25} passes, unless what it hides would be an attack after decoding again and again;
- C{%3B}, C{%3F} and C{%23} pass, but not behind a dot segment (C{/..%3Fx});
- backslashes, raw bytes beyond ASCII, stray C{%}: refused (the parser has done so).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

#: No percent sign and no dot in sight: nothing can hide. Nearly all paths are so.
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@]+)+/?|/")

#: RFC 3986 pchar without C{%}, which has its own rule.
_CHARACTERS = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})+")

#: What ends a segment's name: its parameters, or what is query or fragment once decoded.
_TAIL = re.compile(rb"[;?#][^/]*")

_DOTS = re.compile(rb"/\.{1,2}(?:[/;?#]|\Z)")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

#: Octets that must not be percent-encoded: unreserved characters, controls, both slashes.
_REFUSED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/\\"
) | frozenset((*range(0x20), 0x7F))

#: Octets that are an attack once somebody decodes twice.
_ATTACKS = frozenset((*b"./\\", *range(0x20), 0x7F))

#: Overlong UTF-8: C{%C0%AE} was a dot, and C{%C0%AF} a slash, to some services.
_OVERLONG = re.compile(
    rb"[\xC0\xC1]|\xE0[\x80-\x9F]|\xF0[\x80-\x8F]|\xF8[\x80-\x87]|\xFC[\x80-\x83]"
)

#: How often a path may be decoded and still change before nobody wants to know any more.
_DEPTH = 4


def judge(path: bytes) -> bool:
    """Whether the path, without its query, has one meaning only."""
    if _PLAIN.fullmatch(path) is not None:
        return True
    if not path.startswith(b"/") or _CHARACTERS.fullmatch(path) is None:
        return False
    if b"//" in path or _DOTS.search(path) is not None:
        return False
    if b"%" not in path:
        return True
    return not _encodes(path, _REFUSED) and _harmless(path)


def carelessly(path: bytes) -> bytes:
    """
    How a careless service may read a path that L{judge} lets through: decoded to the end,
    without the parameters of its segments (C{/a%253Ab;v=1/c} is C{/a:b/c}).
    """
    decoded = unquote_to_bytes(path)
    while decoded != path:
        path, decoded = decoded, unquote_to_bytes(decoded)
    return _TAIL.sub(b"", path)


def _harmless(path: bytes) -> bool:
    """Whether nothing hides in the path, however often somebody decodes it."""
    for _ in range(_DEPTH):
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return True
        path = decoded
        if _OVERLONG.search(path) or _DOTS.search(path) or _encodes(path, _ATTACKS):
            return False
    return unquote_to_bytes(path) == path


def _encodes(path: bytes, octets: frozenset[int]) -> bool:
    """Whether one of the octets is there percent-encoded."""
    return any(int(digits, 16) in octets for digits in set(_ESCAPE.findall(path)))


def split(target: bytes) -> tuple[bytes, bytes]:
    """The path, and the query with its C{?}, of a target in origin form."""
    path, mark, query = target.partition(b"?")
    return path, mark + query
