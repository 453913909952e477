"""Tests for limits in a file: windows, costs, plans and what is wrong with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.limits import WINDOWS, merged, most, windows_of
from gateway.settings.option import BadValue
from tests.settings.test_reader import good, problems

GOLD = "[ratelimit]\nplan_claim = plan\n[plan gold]\n"


def test_windows() -> None:
    """Windows are read in any order and kept from the shortest to the longest; without them limit and window hold."""
    made = good("[ratelimit]\nlimits = 5000/1d, 10/1s\n    100/60s")
    assert made.ratelimit.windows == ((10, 1.0), (100, 60.0), (5000, 86400.0))
    assert good("[ratelimit]\nlimit = 7\nwindow = 5m").ratelimit.windows == ((7, 300.0),)


def test_a_route_or_plan_with_its_own_limit() -> None:
    """A limit of its own takes the place of inherited windows, and windows of its own that of an inherited limit."""
    made = good("[ratelimit]\nlimits = 10/1s, 100/60s\nplan_claim = plan\n[plan gold]\nlimit = 500\n", "ratelimit.limit = 5")
    assert made.routes[0].ratelimit.windows == ((5, 60.0),)
    assert [(name, plan.windows) for name, plan in made.plans] == [("gold", ((500, 60.0),))]
    made = good("[ratelimit]\nlimit = 7\n", "ratelimit.limits = 1/1s, 5/60s")
    assert made.routes[0].ratelimit.windows == ((1, 1.0), (5, 60.0))


def test_costs() -> None:
    """Costs are common, by route, by method; a route's own replace all common ones, and make no counter of its own."""
    made = good("[ratelimit]\ncost = 2\ncost.POST = 5\n", "ratelimit.cost.DELETE = 9")
    assert (made.ratelimit.cost, made.ratelimit.costs) == (2, (("POST", 5),))
    route = made.routes[0]
    assert (route.ratelimit.cost, route.ratelimit.costs, route.own_counter) == (1, (("DELETE", 9),), False)
    assert route.loosened == ("POST counts as 1 instead of 5", "a request counts as 1 instead of 2")
    assert good(route="ratelimit.cost = 3\nratelimit.limit = 9").routes[0].own_counter


def test_plans() -> None:
    """A plan says what differs from the common limit."""
    made = good("[ratelimit]\nlimit = 7\nwindow = 10s\nplan_claim = a.plan\n[plan gold]\nlimits = 9/1s, 90/60s\n[plan free]\nalgorithm = gcra\nburst = 2\n")
    plans = dict(made.plans)
    assert plans["gold"].windows == ((9, 1.0), (90, 60.0))
    assert (plans["free"].windows, plans["free"].algorithm, plans["free"].burst) == (((7, 10.0),), "gcra", 2)


def test_loosened_windows() -> None:
    """A route is told to be looser when one of the common windows is no longer kept by any of its own."""
    common = "[ratelimit]\nlimits = 10/1s, 100/60s\n"
    own = "its requests do not count towards the common limit"
    assert good(common, "ratelimit.limits = 5/1s, 100/1h").routes[0].loosened == (own,)
    looser = good(common, "ratelimit.limits = 10/1s, 200/60s").routes[0].loosened
    assert looser == (own, "10 requests in 1 s, 200 in 60 s instead of 10 in 1 s, 100 in 60 s")


BAD = [
    ("[ratelimit]\nlimits = 100", "up to 8 windows such as 10/1s, 100/60s, 5000/1d, not 100"),
    ("[ratelimit]\nlimits = 0/1s", "a whole number from 1"),
    ("[ratelimit]\nlimits = 5/60", "a time from 1s to 30d"),
    ("[ratelimit]\nlimits = 5/250ms", "a time from 1s to 30d"),
    ("[ratelimit]\nlimits = 100/1s, 100/60s", "100/1s can never be felt beside 100/1m"),
    ("[ratelimit]\nlimits = 5/1s, 6/1s", "can never be felt"),
    ("[ratelimit]\nlimits = 1/1s 2/2s 3/3s 4/4s 5/5s 6/6s 7/7s 8/8s 9/9s", "up to 8 windows"),
    ("[ratelimit]\nlimit = 5\nlimits = 1/1s, 5/60s", "[ratelimit] limits: there is limit already; expected limits alone, or limit and window"),
    ("[ratelimit]\nlimits = 5/1s, 9/60s\nalgorithm = gcra\nburst = 6", "burst: is more than limit"),
    ("[ratelimit]\ncost = 0", "a whole number from 1"),
    ("[ratelimit]\ncost.post = 3", "cost.post: expected cost.METHOD with the method in capitals"),
    ("[ratelimit]\ncost.POST = x", "a whole number from 1"),
    ("[ratelimit]\nlimit = 4\ncost.POST = 5", "cost.POST: 5 is more than the limit ever lets pass, 4"),
    ("[ratelimit]\nlimit = 9\ncost = 5\nplan_claim = p\n[plan free]\nlimit = 3", "cost: 5 is more than free ever lets pass, 3"),
    ("[ratelimit]\nlimit = 9\nplan_claim = p\n[plan free]\nlimit = 3\n[route /b]\nupstream = http://b\nratelimit.cost = 5", "[route /b] ratelimit.cost: 5 is more than free ever lets pass, 3"),
    ("[route /b]\nupstream = http://b\nratelimit.cost.PUT = 101", "[route /b] ratelimit.cost.PUT: 101 is more than the limit"),
    ("[route /b]\nupstream = http://b\nratelimit.limit = 3\nratelimit.cost = 4", "4 is more than the limit ever lets pass, 3"),
    ("[route /b]\nupstream = http://b\nratelimit.limit = 3\nratelimit.limits = 4/1s", "[route /b] ratelimit.limits: there is limit already"),
    ("[route /b]\nupstream = http://b\nratelimit.refused = 3/1s", "holds for all"),
    ("[route /b]\nupstream = http://b\nratelimit.plan_claim = x", "holds for all"),
    ("[plan gold]\nlimit = 3", "[ratelimit] plan_claim: missing; without it nobody has a [plan]"),
    ("[ratelimit]\nplan_claim = plan", "plan_claim: there is no [plan NAME]"),
    (GOLD + "[plan gold]\nlimit = 3", "[plan gold]: this plan stands there twice"),
    (GOLD + "limt = 3", '[plan gold] limt: unknown option; did you mean "limit"?'),
    (GOLD + "key = ip", "[plan gold] key: unknown option"),
    (GOLD + "limit = 3\nlimits = 4/1s", "[plan gold] limits: there is limit already"),
    (GOLD + "algorithm = gcra\nburst = 101", "[plan gold] burst: is more than limit"),
    ("[ratelimit]\nplan_claim = plan\n[plan default]\nlimit = 3", "not default or refused"),
    ("[ratelimit]\nplan_claim = plan\n[plan]\nlimit = 3", "expected [plan NAME]"),
    ("[ratelimit]\nplan_claim = plan\n[plan a%b]\nlimit = 3", "expected [plan NAME]"),
    ("[plans gold]\nlimit = 3", 'unknown section; did you mean "plan"?'),
    ("[ratelimit]\nmachines = 0", "a whole number from 1 to 1000"),
    ("[ratelimit]\nrefused = 30", "such as"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_bad_limits(text: str, says: str) -> None:
    """Each is one problem at its line."""
    found = problems(text)
    assert len(found) == 1, found
    assert says in found[0]


@given(st.text(st.sampled_from("0159/smhd, \n."), max_size=20))
def test_any_windows(text: str) -> None:
    """Whatever is written, it is windows that can all be felt, or told to be none."""
    try:
        found = WINDOWS.parse(text)
    except BadValue:
        return
    assert list(found) == sorted(found, key=lambda each: each[1])
    limits = [limit for limit, _ in found]
    assert limits == sorted(set(limits))


def test_merging_changes_nothing() -> None:
    """The common values stay as they are; the highest cost is the least any window lets pass."""
    common = {"limit": 9, "window": 60.0, "limits": ((3, 1.0), (9, 60.0)), "algorithm": "gcra", "burst": 2, "cost": 1, "costs": ()}
    kept = dict(common)
    assert windows_of(merged(common, {"limit": 5})) == ((5, 60.0),)
    assert common == kept
    assert most(common) == 2
    assert most({**common, "algorithm": "fixed-window"}) == 3
