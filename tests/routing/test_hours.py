"""Tests for gateway.routing.hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.hours import Hours, Span

BERLIN, NEW_YORK, KATHMANDU, UTC_ZONE = (ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"))
WORK = frozenset(range(5))


def at(text: str) -> float:
    """Unix seconds of a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def span(begins: str, ends: str, days: frozenset[int] = WORK, zone: ZoneInfo = BERLIN) -> Span:
    """From HH:MM to HH:MM."""
    one, other = (int(text[:2]) * 60 + int(text[3:]) for text in (begins, ends))
    return Span(days, one, other, zone)


@pytest.mark.parametrize(
    ("moment", "open_"),
    [
        # Winter: Berlin is an hour before UTC. 2026-01-05 is a Monday.
        ("2026-01-05T06:59:59", False), ("2026-01-05T07:00:00", True), ("2026-01-05T16:59:59", True), ("2026-01-05T17:00:00", False),
        # Summer: two hours.
        ("2026-07-06T05:59:59", False), ("2026-07-06T06:00:00", True), ("2026-07-06T15:59:59", True), ("2026-07-06T16:00:00", False),
        # The weekend, and the Fridays around the changes of 29 March and 25 October.
        ("2026-01-10T10:00:00", False), ("2026-01-11T10:00:00", False),
        ("2026-03-27T07:00:00", True), ("2026-03-30T06:00:00", True), ("2026-03-30T05:59:59", False),
        ("2026-10-23T06:00:00", True), ("2026-10-26T06:59:59", False), ("2026-10-26T07:00:00", True),
    ],
)  # fmt: skip
def test_working_hours(moment: str, open_: bool) -> None:
    """Mon-Fri 08:00-18:00 Europe/Berlin, to the second, in summer and in winter."""
    assert Hours([span("08:00", "18:00")]).open(at(moment)) is open_


def test_an_hour_that_is_skipped() -> None:
    """02:00-03:00 does not come on the night the clocks go forward."""
    hours = Hours([span("02:00", "03:00", frozenset(range(7)))])
    night = at("2026-03-28T23:00:00")
    assert not any(hours.open(night + 60 * minute) for minute in range(12 * 60))
    assert sum(hours.open(night + 86400 + 60 * minute) for minute in range(12 * 60)) == 60


def test_an_hour_that_is_repeated() -> None:
    """02:00-03:00 comes twice on the night they go back."""
    hours = Hours([span("02:00", "03:00", frozenset(range(7)))])
    night = at("2026-10-24T22:00:00")
    assert sum(hours.open(night + 60 * minute) for minute in range(12 * 60)) == 120


@pytest.mark.parametrize(
    ("moment", "open_"),
    [
        ("2026-01-09T21:59:59", False), ("2026-01-09T22:00:00", True), ("2026-01-10T05:59:59", True), ("2026-01-10T06:00:00", False),
        ("2026-01-10T22:00:00", False), ("2026-01-12T03:00:00", False), ("2026-01-12T23:00:00", True), ("2026-01-13T03:00:00", True),
    ],
)  # fmt: skip
def test_over_midnight(moment: str, open_: bool) -> None:
    """Mon-Fri 22:00-06:00: Friday's night lasts into Saturday, and Monday's begins in the evening."""
    assert Hours([span("22:00", "06:00", zone=UTC_ZONE)]).open(at(moment)) is open_


def test_over_midnight_in_the_night_of_the_change() -> None:
    """Sat 22:00-06:00 lasts seven hours in the short night and nine in the long one."""
    hours = Hours([span("22:00", "06:00", frozenset({5}))])
    for first, long in (("2026-03-28T12:00:00", 7), ("2026-10-24T12:00:00", 9)):
        assert sum(hours.open(at(first) + 60 * minute) for minute in range(24 * 60)) == long * 60


def test_any_of_several() -> None:
    """Spans add up, each in its own zone; offsets of three quarters of an hour are right too."""
    hours = Hours([span("08:00", "12:00", frozenset({0})), span("09:00", "10:00", frozenset({6}), KATHMANDU)])
    assert hours.open(at("2026-01-05T10:00:00"))
    assert hours.open(at("2026-01-04T03:15:00"))
    assert not hours.open(at("2026-01-04T03:14:59"))
    assert not hours.open(at("2026-01-05T11:00:00"))


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)), st.lists(st.integers(0, 130_000), max_size=5),
    st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(1, 1440), st.sampled_from([BERLIN, NEW_YORK, KATHMANDU]),
)  # fmt: skip
def test_as_on_the_wall(begin: datetime, steps: list[int], days: frozenset[int], begins: int, ends: int, zone: ZoneInfo) -> None:
    """Whatever was asked before, the answer is the one a clock on the wall and a calendar give."""
    hours = Hours([Span(days, begins, ends, zone)])
    moment = begin.replace(tzinfo=UTC)
    for step in (0, *steps, -sum(steps)):
        moment += timedelta(seconds=step)
        local = moment.astimezone(zone)
        since = local.hour * 60 + local.minute
        if begins < ends:
            expected = local.weekday() in days and begins <= since < ends
        else:
            yesterday = (local.date() - timedelta(days=1)).weekday()
            expected = (local.weekday() in days and since >= begins) or (yesterday in days and since < ends)
        assert hours.open(moment.timestamp()) is expected
