"""Tests for gateway.admission.claim_headers."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.claim_headers import ClaimHeaders, field_value
from gateway.admission.identity import Identity, IdentityRules
from gateway.admission.tokens import VerifiedToken
from gateway.verdicts import Reason, Refused

texts = st.text(st.characters(codec="utf-8"), max_size=30)
scalars = st.one_of(texts, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
trees = st.recursive(st.one_of(scalars, st.none()), lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)), max_leaves=12)


@given(trees.filter(lambda value: value is not None))
def test_one_line_whatever_it_is(value: object) -> None:
    """No claim breaks out of its field: visible ASCII, no percent or comma of its own."""
    found = field_value(value)
    assert found is not None
    assert re.fullmatch(rb"[!-~]*", found)
    assert re.fullmatch(rb"(?:[^%]|%[0-9A-F]{2})*", found)
    if not isinstance(value, list):
        assert b"," not in found


@given(st.one_of(texts, st.dictionaries(texts, trees, max_size=4)))
def test_it_tells_the_claim_again(value: object) -> None:
    """A text, or an object, is what the service gets by decoding."""
    found = field_value(value)
    assert found is not None
    text = unquote(found.decode("ascii"))
    assert (text if isinstance(value, str) else json.loads(text)) == value


@given(st.lists(texts, min_size=1, max_size=5))
def test_lists_come_apart_again(value: list[str]) -> None:
    """A list of texts is what the service gets by splitting at commas, then decoding."""
    found = field_value(value)
    assert found is not None
    assert [unquote(item) for item in found.decode("ascii").split(",")] == value


@pytest.mark.parametrize("value", ["\ud800", ["x", "\udfff"], {"a": "\ud800"}, float("inf"), [float("-inf")], {"a": float("nan")}])
def test_what_has_no_spelling(value: object) -> None:
    """Lone surrogates and numbers without end are refused."""
    assert field_value(value) is None


def test_too_deep() -> None:
    """So is what nests without end."""
    value: object = 1
    for _ in range(100_000):
        value = [value]
    assert field_value(value) is None


def test_lines() -> None:
    """A line for each claim that is there, in the order of the settings."""
    made = ClaimHeaders([("X-B", "b"), ("X-A", "a.x"), ("X-C", "c")], 10)
    assert made.lines({"a": {"x": ["1", 2]}, "b": "q", "c": None}) == b"X-B: q\r\nX-A: 1,2\r\n"
    assert made.lines({}) == b""
    assert made.lines({"b": "x" * 10}) == b"X-B: %b\r\n" % (b"x" * 10)
    assert made.lines({"b": "x" * 11}) is None
    assert made.lines({"b": "ü" * 2}) is None


def test_they_stand_beside_the_identity() -> None:
    """The lines are made once, with the identity; a token whose claim can't be sent is refused."""
    rules = IdentityRules(require_exp=False, claim_headers=ClaimHeaders([("X-Team", "team")], 4))
    identity = rules.identify(VerifiedToken({"sub": "ann", "team": "red"}, None, None, 0), 0.0)
    assert isinstance(identity, Identity)
    assert identity.headers == b"X-User-ID: ann\r\nX-User-Role: user\r\nX-Team: red\r\n"
    refused = rules.identify(VerifiedToken({"sub": "ann", "team": "green"}, None, None, 0), 0.0)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.TOKEN
