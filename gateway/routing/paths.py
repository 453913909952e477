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
- C{%25} passes, unless what it hides would be refused after decoding once more;
- backslashes, raw bytes beyond ASCII, stray C{%}: refused (the parser has done so).
"""

from __future__ import annotations

import re

#: No percent sign and no dot in sight: nothing can hide. Nearly all paths are so.
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@]+)+/?|/")

#: RFC 3986 pchar without C{%}, which has its own rule.
_CHARACTERS = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})+")

_DOTS = re.compile(rb"/\.{1,2}(?:;[^/]*)?(?:/|$)")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

#: Octets that must not be percent-encoded: unreserved characters, controls, both slashes.
_REFUSED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/\\"
) | frozenset((*range(0x20), 0x7F))

#: Octets that are an attack once somebody decodes twice.
_ATTACKS = frozenset((*b"./\\", *range(0x20), 0x7F))

#: Overlong UTF-8: C{%C0%AE} was a dot, and C{%C0%AF} a slash, to some services.
_OVERLONG = re.compile(rb"%[Cc][01]|%[Ee]0%[89][0-9A-Fa-f]|%[Ff]0%8")

#: How often a C{%25} may hide another one before nobody wants to know any more.
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
    return _escapes(path) and _hidden(path)


def _escapes(path: bytes) -> bool:
    """Whether each escape has to be one."""
    return not _any(path, _REFUSED)


def _hidden(path: bytes) -> bool:
    """Whether what C{%25} hides is harmless, too, when somebody decodes once more."""
    for _ in range(_DEPTH):
        if b"%25" not in path:
            return True
        path = path.replace(b"%25", b"%")
        if _any(path, _ATTACKS):
            return False
    return b"%25" not in path


def _any(path: bytes, octets: frozenset[int]) -> bool:
    """Whether one of the octets is there percent-encoded, or an overlong form of anything."""
    return _OVERLONG.search(path) is not None or any(
        int(digits, 16) in octets for digits in _ESCAPE.findall(path)
    )


def split(target: bytes) -> tuple[bytes, bytes]:
    """The path, and the query with its C{?}, of a target in origin form."""
    path, mark, query = target.partition(b"?")
    return path, mark + query
