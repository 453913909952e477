# -*- test-case-name: tests.admission.test_tokens -*-
"""
Base64url and JSON as tokens and key sets have them: lets in the one canonical spelling;
refuses padding, spare bits, members named twice, NaN and whatever else two readers could
read differently.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from sys import intern
from typing import Any, NoReturn

#: Base64url without padding (RFC 7515 section 2).
PART = re.compile(rb"[A-Za-z0-9_-]+")

#: Characters of a member's name beyond which it is nobody's usual one.
_NAME = 32


def unbase64(part: bytes) -> bytes | None:
    """Base64url without padding (RFC 7515 section 2), in its one canonical spelling."""
    if PART.fullmatch(part) is None:
        return None
    try:
        data = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        return None
    # Spare bits must be zero, or one signature had several spellings.
    return data if urlsafe_b64encode(data).rstrip(b"=") == part else None


def json_object(data: bytes | None) -> dict[str, Any] | None:
    """A JSON object in which no member is named twice (RFC 7519 section 4)."""
    if data is None:
        return None
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Tokens repeat the same few names, each of which is kept once.
    found = {intern(name) if len(name) <= _NAME else name: value for name, value in pairs}
    if len(found) != len(pairs):
        raise ValueError("a member named twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON
