# -*- test-case-name: tests.admission.test_claim_headers -*-
"""
Lets claims out to the upstream as header fields, in an encoding that no claim can break
out of; refuses a value that has none or is too long.

Text travels as identity fields do: visible ASCII as it is, all else, and C{,} and C{%},
percent-encoded (UTF-8). Numbers and booleans as in JSON. A list's items are encoded one by
one and joined with commas; an object, or what is in a list's list, is compact JSON,
encoded. A claim that is missing or null has no field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from gateway.admission.identity import SAFE, claim_of

#: What travels as it is, whole.
_PLAIN = re.compile(r"[!-$&-+\--~]*")


class ClaimHeaders:
    """
    Claims as fields.

    @param fields: (field name, claim); a dotted claim reaches into objects.
    @param most: bytes of one value.
    """

    __slots__ = ("_fields", "_most")

    def __init__(self, fields: Sequence[tuple[str, str]], most: int) -> None:
        self._fields = tuple((name.encode("ascii"), claim) for name, claim in fields)
        self._most = most

    def lines(self, claims: dict[str, Any]) -> bytes | None:
        """
        The field lines, a CRLF behind each; C{None} if one of the claims can't be sent: half
        of a list of groups, or none of it, would be another statement.
        """
        made = b""
        for name, claim in self._fields:
            value = claim_of(claims, claim)
            if value is None:
                continue
            text = field_value(value)
            if text is None or len(text) > self._most:
                return None
            made += b"%s: %s\r\n" % (name, text)
        return made


def field_value(value: object) -> bytes | None:
    """A claim as it is sent, or C{None} when it can't be."""
    try:
        if isinstance(value, list):
            return b",".join([_text(item) for item in value])
        return _text(value)
    except (ValueError, RecursionError):  # a lone surrogate, infinity, too deep
        return None


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    elif value.count("@") > 1:
        # It deceives services that split e-mail addresses (GHSA-c5c4-8r6x-56w3).
        return quote(value, safe=SAFE.replace("@", "")).encode("ascii")
    if _PLAIN.fullmatch(value) is not None:
        return value.encode("ascii")
    return quote(value, safe=SAFE).encode("ascii")
