"""Tests for gateway.admission.confirmation: a bound token needs each of its proofs."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admission.confirmation import bound_to_key, confirmed

CERTIFICATE, KEY = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2", "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


@pytest.mark.parametrize(
    ("cnf", "certificate", "key", "passes"),
    [
        ({"x5t#S256": CERTIFICATE}, CERTIFICATE, None, True), ({"x5t#S256": CERTIFICATE}, KEY, None, False),
        ({"x5t#S256": CERTIFICATE}, None, CERTIFICATE, False), ({"jkt": KEY}, None, KEY, True), ({"jkt": KEY}, KEY, None, False),
        ({"jkt": KEY, "x5t#S256": CERTIFICATE}, CERTIFICATE, KEY, True), ({"jkt": KEY, "x5t#S256": CERTIFICATE}, None, KEY, False),
        ({"jkt": KEY, "x5t#S256": CERTIFICATE}, CERTIFICATE, None, False), ({"jkt": KEY, "kid": "k"}, CERTIFICATE, KEY, False),
        ({}, CERTIFICATE, KEY, False), (None, CERTIFICATE, KEY, False), ("x", CERTIFICATE, KEY, False), ([], None, KEY, False),
        ({"jkt": None}, None, None, False), ({"jkt": ""}, None, "", False) , ({"jkt": [KEY]}, None, KEY, False), ({"jkt": "\ud800"}, None, KEY, False),
    ],
)  # fmt: skip
def test_who_a_token_is_bound_to(cnf: Any, certificate: str | None, key: str | None, passes: bool) -> None:
    """Every proof that the token names is needed; what is not known here is never proven."""
    assert confirmed({"cnf": cnf}, certificate, key) is passes


def test_bound_to_nobody() -> None:
    """A token without cnf is anybody's who has it."""
    assert confirmed({}, None, None)
    assert not bound_to_key({})
    assert not bound_to_key({"cnf": "jkt"})
    assert bound_to_key({"cnf": {"jkt": KEY}})
