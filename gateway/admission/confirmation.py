# -*- test-case-name: tests.admission.test_confirmation -*-
"""
To whom a token is bound (C{cnf}, RFC 7800): lets it through with every proof that it asks for;
refuses it with 401 without one of them, or when it asks for what is not known here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

#: Kinds of confirmation that can be checked: a certificate (RFC 8705), a key (RFC 9449).
CERTIFICATE, KEY = "x5t#S256", "jkt"


def confirmed(claims: Mapping[str, Any], certificate: str | None, key: str | None) -> bool:
    """
    Whether the sender is who the token is bound to. A token that is bound to nobody is
    anybody's.

    @param certificate: the thumbprint of the client's certificate, if it has one.
    @param key: the thumbprint of the key of its proof, if there was one.
    """
    if "cnf" not in claims:
        return True
    cnf = claims["cnf"]
    if not isinstance(cnf, dict) or not cnf:
        return False
    has = {CERTIFICATE: certificate, KEY: key}
    return all(_same(value, has.get(kind)) for kind, value in cnf.items())


def bound_to_key(claims: Mapping[str, Any]) -> bool:
    """Whether it is bound to a key, so that it may come with a proof only."""
    cnf = claims.get("cnf")
    return isinstance(cnf, dict) and KEY in cnf


def _same(wanted: object, found: str | None) -> bool:
    if not isinstance(wanted, str) or not found:
        return False
    return hmac.compare_digest(wanted.encode("utf-8", "replace"), found.encode("ascii"))
