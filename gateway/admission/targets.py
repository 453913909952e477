# -*- test-case-name: tests.admission.test_targets -*-
"""
Whether a proof's C{htu} names the target of a request (RFC 9449 section 4.3): lets spellings
through that mean the same by RFC 3986 sections 6.2.2 and 6.2.3; query and fragment do not count.
"""

from __future__ import annotations

import re
from functools import lru_cache

#: Characters of a C{htu}.
MAX_URI = 4096

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\@\s]+)([^?#\s]*)(?:\?[^#]*)?(?:#.*)?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_PORTS = {"http": "80", "https": "443"}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def same_target(htu: str, target: tuple[bytes, bytes, bytes]) -> bool:
    """
    Whether they are one.

    @param target: scheme, authority and path, as the client saw them.
    """
    match = _URI.fullmatch(htu) if len(htu) <= MAX_URI and htu.isascii() else None
    if match is None:
        return False
    scheme, authority, path = (part.decode("latin-1") for part in target)
    return normal(match[1], match[2], match[3]) == normal(scheme, authority, path)


@lru_cache(maxsize=1024)
def normal(scheme: str, authority: str, path: str) -> tuple[str, str, str]:
    """The one spelling of all that mean the same."""
    scheme = scheme.lower()
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, ""
    if not port:
        port = _PORTS.get(scheme, "")
    path = _ESCAPE.sub(_escape, path)
    return scheme, f"{host.lower()}:{port}", _without_dots(path) or "/"


def _escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else f"%{match[1].upper()}"


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4."""
    if "/." not in path:
        return path
    found: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            del found[-1:]
        elif segment != ".":
            found.append(segment)
    if segments[-1] in (".", ".."):
        found.append("")
    return "/" + "/".join(found)
