"""What is revoked: which tokens an entry concerns, and how words on one thing are put in order."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.revocation import entries
from gateway.revocation.entries import Entry, Revocations, from_json

NOW = 1_700_000_000.0


def revoked(entry: Entry, user: str = "ann", kid: str = "", **claims: Any) -> bool:
    """Whether such a token is revoked by that entry alone."""
    held = Revocations()
    held.merge([entry], NOW)
    return held.revoked(user, claims, kid) is not None


def test_by_token() -> None:
    """Only the token with that identifier."""
    entry = Entry("jti", "x1", NOW)
    assert revoked(entry, jti="x1")
    assert not revoked(entry, jti="x2")
    assert not revoked(entry)
    assert not revoked(entry, jti=["x1"])
    assert not revoked(entry, "x1", kid="x1")


def test_by_key() -> None:
    """Only tokens whose header names that key."""
    entry = Entry("kid", "k1", NOW)
    assert revoked(entry, kid="k1")
    assert not revoked(entry, "k1", jti="k1", kid="k2")
    assert not revoked(entry)


@pytest.mark.parametrize(("claims", "expected"), [
    ({"iat": NOW - 1}, True), ({"iat": NOW}, False), ({"iat": NOW + 1}, False), ({}, True), ({"iat": "soon"}, True),
    ({"iat": True}, True), ({"iat": None}, True), ({"iat": math.nan}, True),
])  # fmt: skip
def test_by_user(claims: dict[str, Any], expected: bool) -> None:
    """All tokens of the user that were issued before; one that does not say when counts as older."""
    entry = Entry("user", "ann", NOW, before=NOW)
    assert revoked(entry, **claims) is expected
    assert not revoked(entry, "bob", **claims)


def test_undone_and_over() -> None:
    """What was undone, or can't concern anybody any more, is as if it had never been said."""
    held = Revocations()
    entry = Entry("jti", "x", NOW, until=NOW + 10)
    assert held.merge([entry], NOW) == [entry]
    assert held.merge([entry], NOW) == []
    undo = replace(entry, at=NOW + 1, undone=True)
    assert held.merge([undo], NOW) == [undo]
    assert held.revoked("ann", {"jti": "x"}, "") is None
    assert held.merge([entry], NOW) == []  # old news
    held.forget(NOW + 10)
    assert len(held) == 0
    assert held.merge([entry], NOW + 10) == []


def test_who_listens_hears_what_comes_into_force() -> None:
    """Each new revocation once; nothing of what is undone."""
    held = Revocations()
    heard: list[list[Entry]] = []
    held.heard.append(heard.append)
    entry = Entry("kid", "k", NOW)
    held.merge([entry], NOW)
    held.merge([entry, replace(entry, at=NOW + 1, undone=True)], NOW)
    assert heard == [[entry]]


TIMES = st.sampled_from([NOW, NOW + 1, NOW + 2])
ENTRIES = st.builds(
    Entry, st.sampled_from(entries.KINDS), st.sampled_from("ab"), TIMES, TIMES, st.just(math.inf),
    st.sampled_from(["", "why"]), st.booleans(),
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=4))
def test_any_order_ends_alike(said: list[Entry]) -> None:
    """Whoever hears the same words in any order, and twice, knows the same."""
    known = set()
    for order in itertools.permutations(said):
        held = Revocations()
        for entry in (*order, *order[:2]):
            held.merge([entry], NOW)
        known.add(frozenset(held))
    assert len(known) == 1


@given(ENTRIES)
def test_lines(entry: Entry) -> None:
    """An entry is the same after it was written and read."""
    assert from_json(entry.to_json()) == entry
    assert "\n" not in entry.to_json()


@pytest.mark.parametrize("line", [
    "", "x", "[]", "{}", "null", '{"kind": "jti", "value": "x"}', '{"kind": "ip", "value": "x", "at": 1}',
    '{"kind": "jti", "value": "", "at": 1}', '{"kind": "jti", "value": 7, "at": 1}', '{"kind": "jti", "value": "x", "at": "1"}',
    '{"kind": "jti", "value": "x", "at": NaN}', '{"kind": "jti", "value": "x", "at": Infinity}', '{"kind": "jti", "value": "x", "at": true}',
    '{"kind": "jti", "value": "a\\nb", "at": 1}', '{"kind": "jti", "value": "x", "at": 1, "undone": 1}',
    '{"kind": "jti", "value": "x", "at": 1, "more": 1}', '{"kind": "jti", "value": "x", "at": 1, "reason": "\\u0000"}',
    '{"kind": "jti", "value": "%s", "at": 1}' % ("x" * 513), "[" * 100_000,
])  # fmt: skip
def test_lines_that_are_none(line: str) -> None:
    """Nothing else in the file or from another process becomes an entry."""
    assert from_json(line) is None


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room, new entries are refused and counted; known ones can be changed."""
    monkeypatch.setattr(entries, "MOST", 3)
    held = Revocations()
    held.merge([Entry("jti", str(number), NOW) for number in range(5)], NOW)
    assert (len(held), held.refused) == (3, 2)
    assert held.merge([Entry("jti", "0", NOW + 1, undone=True)], NOW)
