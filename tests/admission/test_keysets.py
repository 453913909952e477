"""Tests for gateway.admission.keysets: when keys are fetched, who waits, who is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.keysets import KeySet, Missing, Pace
from gateway.jwks import KeyRing, NamedKey
from gateway.keys import VerificationKey

PACE = Pace()


def key(kid: str, meaning: object = None) -> NamedKey:
    """A key by that name."""
    return NamedKey(kid, VerificationKey({}, kid), meaning or kid)


def ring(*kids: str) -> KeyRing:
    """A set of such keys."""
    return KeyRing([key(kid) for kid in kids])


def known(*kids: str, lifetime: float | None = None, now: float = 0.0, pace: Pace = PACE) -> KeySet:
    """A key set that has been fetched."""
    keys = KeySet(pace, now)
    keys.begin()
    keys.succeeded(ring(*kids), lifetime, now, 0.0)
    return keys


@pytest.mark.parametrize(
    ("lifetime", "due"),
    [(None, 2880.0), (600.0, 480.0), (0.0, 48.0), (1.0, 48.0), (1e9, 0.8 * 86400)],
)
def test_refresh(lifetime: float | None, due: float) -> None:
    """Keys are fetched anew at four fifths of the life their issuer says, within bounds; an hour if it says none."""
    assert known("a", lifetime=lifetime).due == pytest.approx(due)


@given(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e12)))
def test_refresh_is_never_late(jitter: float, lifetime: float | None) -> None:
    """Whatever chance says, keys are fetched between 70 % and 80 % of their life."""
    keys = KeySet(PACE)
    keys.succeeded(ring("a"), lifetime, 1000.0, jitter)
    life = max(60.0, min(86400.0, 3600.0 if lifetime is None else lifetime))
    assert 0.7 * life - 1e-6 <= keys.due - 1000.0 <= 0.8 * life + 1e-6


def test_an_outage_is_repeated_ever_more_rarely() -> None:
    """After 1 s, 2 s, 4 s, … and at last every minute; the keys stay."""
    keys = known("a")
    waits = []
    for _ in range(9):
        keys.begin()
        keys.failed(100.0, 0.0)
        waits.append(keys.due - 100.0)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert keys.ring is not None
    keys.succeeded(ring("a"), None, 200.0, 0.0)
    keys.failed(200.0, 0.0)
    assert keys.due == 201.0


def test_keys_are_given_up_at_last() -> None:
    """Keys that could not be fetched for a day are used no more, or whoever keeps an issuer away keeps a stolen key good."""
    keys = known("a", now=1000.0)
    assert keys.expire(1000.0 + 86399.9) == ()
    assert [each.kid for each in keys.expire(1000.0 + 86400.0)] == ["a"]
    assert keys.ring is None
    assert keys.expire(1e9) == ()
    assert keys.missing(1e9) is Missing.UNAVAILABLE


def test_what_has_gone() -> None:
    """A key that leaves the set is told, and one whose meaning has changed under its name; one that stays is the same object."""
    keys = known("a", "b")
    assert keys.ring is not None
    stays = keys.ring.find("a", "") or keys.ring.keys[0]
    changed = KeyRing([key("a"), key("b", "other"), key("c")])
    gone = keys.succeeded(changed, None, 1.0, 0.0)
    assert [each.kid for each in gone] == ["b"]
    assert keys.ring.keys[0] is stays
    assert [each.kid for each in keys.ring.keys] == ["a", "b", "c"]


def test_no_key_was_ever_had() -> None:
    """While the first fetch is under way requests wait; once it has failed they get 503 at once, and begin none."""
    keys = KeySet(PACE)
    keys.begin()
    assert keys.missing(0.0) is Missing.WAIT
    keys.failed(0.1, 0.0)
    keys.left()
    assert keys.missing(0.2) is Missing.UNAVAILABLE
    assert keys.waiting == 0


def test_row_3_one_fetch_an_interval() -> None:
    """Row 3 (CVE-2026-48524): of all who name unknown keys one begins a fetch, 99 more wait, the rest is refused; after it, too."""
    keys = known("a")
    found = []
    for _ in range(10_000):
        verdict = keys.missing(100.0)
        found.append(verdict)
        if verdict is Missing.FETCH:
            keys.begin()
    assert found.count(Missing.FETCH) == 1
    assert found.count(Missing.WAIT) == 99
    assert found.count(Missing.REFUSED) == 9_900
    keys.succeeded(ring("a"), None, 100.5, 0.0)
    for _ in range(100):
        keys.left()
    assert {keys.missing(now) for now in (100.6, 109.9)} == {Missing.REFUSED}
    assert keys.missing(110.0) is Missing.FETCH


def test_who_has_waited_enough() -> None:
    """Nobody waits for more than a second, however many fetches there are."""
    keys = known("a")
    assert keys.missing(0.0, waited=1.0) is Missing.REFUSED
    keys.begin()
    assert keys.missing(0.0, waited=0.999) is Missing.WAIT
    assert keys.missing(0.0, waited=1.0) is Missing.REFUSED


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "succeed", "fail", "leave", "due"]), st.floats(0, 5)),
        max_size=200,
    ),
    st.integers(0, 5),
)
def test_bounds_always_hold(steps: list[tuple[str, float]], most: int) -> None:
    """Whatever happens in whatever order, no more than so many wait, and between two fetches for unknown keys lies an interval."""
    keys = KeySet(replace(PACE, waiting=most))
    keys.begin()
    now, begun = 0.0, []
    for step, seconds in steps:
        now += seconds
        if step == "ask":
            verdict = keys.missing(now)
            if verdict is Missing.FETCH:
                begun.append(now)
                keys.begin()
            assert (verdict is Missing.UNAVAILABLE) <= (keys.ring is None)
            assert (verdict is Missing.REFUSED) <= (keys.ring is not None)
        elif step == "succeed" and keys.fetching:
            keys.succeeded(ring("a"), None, now, 0.5)
        elif step == "fail" and keys.fetching:
            keys.failed(now, 0.5)
        elif step == "leave" and keys.waiting:
            keys.left()
        elif step == "due" and not keys.fetching and now >= keys.due:
            keys.begin()
        assert 0 <= keys.waiting <= most
    assert all(later - earlier >= PACE.interval for earlier, later in pairwise(begun))
