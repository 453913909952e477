"""Tests for gateway.routing.policy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.addresses import parse
from gateway.admission.identity import Identity
from gateway.build import policy as built
from gateway.routing.policy import Policy
from gateway.settings import parse as read
from gateway.verdicts import Reason, Refused


def caller(role: str = "user", **claims: Any) -> Identity:
    """Somebody with such claims."""
    return Identity("ann", role, b"", claims, 0.0, float("inf"), tuple(role.split(",")))


def judged(policy: Policy, method: bytes, who: Identity | None, now: float = 0.0, ip: str = "192.0.2.1") -> Refused | None:
    """The refusal, which is the same when asked again."""
    first = policy.judge(method, who, parse(ip), now)
    assert policy.judge(method, who, parse(ip), now) is first
    return first


def verdict(policy: Policy, method: bytes = b"GET", role: str = "user", **claims: object) -> Reason | None:
    """Why not, or None."""
    refused = judged(policy, method, caller(role, **claims))
    return refused.reason if refused is not None else None


def test_open() -> None:
    """A policy that asks nothing says so."""
    assert Policy().open
    assert not Policy(methods=["GET"]).open


def test_methods() -> None:
    """405 names what is allowed, and comes before 403; GET includes HEAD."""
    policy = Policy(methods=["GET", "POST"], roles=[("", ["admin"])])
    refused = judged(policy, b"DELETE", caller())
    assert refused is not None
    assert (refused.reason, refused.lines) == (Reason.METHOD, b"Allow: GET, POST, HEAD\r\n")
    assert verdict(policy, b"HEAD", "admin") is None
    assert verdict(policy, b"get", "admin") is Reason.METHOD
    assert verdict(policy, b"GET", "user") is Reason.POLICY


@pytest.mark.parametrize(
    ("claims", "passes"),
    [
        ({"scope": "a b c"}, True), ({"scope": "b a"}, True), ({"scope": "a"}, False), ({"scope": "ab"}, False), ({"scope": ["a", "b"]}, True),
        ({"scp": "a b"}, True), ({"scp": ["b", "a", 7]}, True), ({"scope": None, "scp": "a b"}, False), ({}, False), ({"scope": {"a": 1, "b": 1}}, False),
        ({"scope": "A B"}, False), ({"scope": "a,b"}, False), ({"scope": 7}, False),
    ],
)  # fmt: skip
def test_scopes(claims: dict[str, object], passes: bool) -> None:
    """Every scope is needed, by its exact name."""
    assert (verdict(Policy(scopes=[("", ["a", "b"])]), **claims) is None) is passes


@pytest.mark.parametrize(
    ("claims", "passes"),
    [
        ({"d": "x"}, True), ({"d": "y"}, True), ({"d": "xy"}, False), ({"d": ["q", "y"]}, True), ({"d": [["y"]]}, False), ({"d": {"x": 1}}, False),
        ({"d": None}, False), ({}, False), ({"d": 1}, True), ({"d": True}, True), ({"d": 1.0}, False),
    ],
)  # fmt: skip
def test_claims(claims: dict[str, object], passes: bool) -> None:
    """A claim is, or holds, one of the values; unknown types never match."""
    assert (verdict(Policy(claims=[("", "d", ["x", "y", "1", "true"])]), **claims) is None) is passes


def test_nested_claims() -> None:
    """A dotted name reaches into objects; a claim of that very name wins."""
    policy = Policy(claims=[("", "realm.team", ["red"])])
    assert verdict(policy, realm={"team": "red"}) is None
    assert verdict(policy, **{"realm.team": "blue", "realm": {"team": "red"}}) is Reason.POLICY


INI = "[jwt]\nsecret = 0123456789abcdef0123456789abcdef\n[route /a]\nupstream = http://a\n"


def of(*lines: str) -> Policy:
    """The policy of a route with such options."""
    return built(read(INI + "\n".join(lines), {}).routes[0])


def test_by_method() -> None:
    """What is asked of a method is asked besides what is asked of all; GET's holds for HEAD."""
    policy = of("require.role = a, b", "require.role.DELETE = b, c", "require.scope.GET = r", "require.claim.x.POST = 1")
    assert verdict(policy, b"DELETE", "a") is Reason.POLICY
    assert verdict(policy, b"DELETE", "b") is None
    assert verdict(policy, b"DELETE", "c") is Reason.POLICY
    for method in (b"GET", b"HEAD"):
        assert verdict(policy, method, "a") is Reason.POLICY
        assert verdict(policy, method, "a", scope="r") is None
    assert verdict(policy, b"POST", "a") is Reason.POLICY
    assert verdict(policy, b"POST", "a", x=1) is None
    assert verdict(policy, b"PUT", "a") is None
    assert verdict(policy, b"BREW", "a") is None
    assert verdict(policy, b"BREW", "c") is Reason.POLICY


def test_several_roles() -> None:
    """One role may meet what is asked of all, another what is asked of the method."""
    policy = of("require.role = a, b", "require.role.DELETE = c")
    found = [verdict(policy, b"DELETE", roles) is None for roles in ("a", "c", "c,a", "b,x,c", "x,c")]
    assert found == [False, False, True, True, False]
    assert verdict(policy, b"GET", "x,b") is None


def test_head_of_its_own() -> None:
    """HEAD may ask for more than GET, never for less."""
    policy = of("require.scope.GET = r", "require.scope.HEAD = h")
    assert [verdict(policy, b"HEAD", scope=scope) is None for scope in ("r", "h", "r h")] == [False, False, True]
    assert verdict(policy, b"GET", scope="r") is None


@pytest.mark.parametrize("method", [b"delete", b"Delete", b"dELETE"])
def test_other_spellings_of_a_method(method: bytes) -> None:
    """A service may take delete for DELETE, so it is asked the same."""
    policy = of("require.role.DELETE = admin")
    assert verdict(policy, method) is Reason.POLICY
    assert verdict(policy, method, "admin") is None
    allowed = of("methods = GET, " + method.decode(), "require.role.DELETE = admin")
    assert verdict(allowed, method) is Reason.POLICY
    assert verdict(allowed, b"DELETE", "admin") is Reason.METHOD


def test_missing_scopes_are_named() -> None:
    """The challenge names all that the method needs, once (RFC 6750 section 3.1)."""
    refused = judged(of("require.scope = a, b", "require.scope.PUT = c, a"), b"PUT", caller(scope="a c"))
    assert refused is not None
    assert refused.lines == b'WWW-Authenticate: Bearer realm="gateway", error="insufficient_scope", scope="a b c"\r\n'
    assert refused.reason is Reason.POLICY


def test_which_one_is_missing() -> None:
    """The audit names the requirement; the first that is not met, in a fixed order."""
    lines = ["require.role = r", "require.scope = s", "require.claim.c = 1", "require.ip = 192.0.2.0/24", "require.time = Thu 00:00-01:00", "require.expr = user == 'bob'"]
    who = [caller(), caller("r"), caller("r", scope="s"), *[caller("r", scope="s", c=1)] * 3]
    places, moments = ["198.51.100.1"] * 4 + ["192.0.2.1"] * 2, [7200.0] * 5 + [60.0]
    found = [judged(of(*lines), b"GET", each, now, ip) for each, now, ip in zip(who, moments, places, strict=True)]
    names = ["require.role", "require.scope", "require.claim.c", "require.ip", "require.time", "require.expr"]
    assert [refused.detail if refused else "" for refused in found] == names


def test_nobody_says_who_calls() -> None:
    """A policy without a caller refuses whatever is asked of one."""
    for line in ("require.role = a", "require.scope = a", "require.claim.sub = ann", "require.expr = user == 'ann'"):
        assert judged(of(line), b"GET", None) is not None
    assert judged(of("require.ip = 192.0.2.1", "public = yes"), b"GET", None) is None
    assert judged(of("require.expr = user == '' && claims == {}"), b"GET", None) is None


def test_what_was_said_is_forgotten() -> None:
    """However many routes and methods there are, an identity remembers only so many verdicts."""
    who = caller()
    for _ in range(100):
        assert of("require.role = a").judge(b"GET", who, None, 0.0) is not None
    assert len(who.verdicts) <= 10


METHODS = ["GET", "HEAD", "POST", "DELETE"]
names = st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True).map(", ".join)
options = st.one_of(
    st.tuples(st.sampled_from(["require.role", "require.scope", "require.claim.c", *(f"require.{kind}.{method}" for kind in ("role", "scope", "claim.c") for method in METHODS)]), names),
    st.tuples(st.just("methods"), st.lists(st.sampled_from(METHODS), min_size=1, unique=True).map(", ".join)),
    st.tuples(st.just("require.ip"), st.sampled_from(["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"])),
    st.tuples(st.just("require.time"), st.sampled_from(["Thu 00:00-12:00", "22:00-02:00 Europe/Berlin", "Fri 00:00-24:00"])),
    st.tuples(st.just("require.expr"), st.sampled_from(["role == 'a'", "claims.c == 'a'", "method == 'GET'", "false"])),
)  # fmt: skip
values = st.one_of(st.sampled_from("abc"), st.lists(st.sampled_from("abc"), max_size=3), st.sampled_from(["a b", "b c", "a b c"]))
requests = st.tuples(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE", b"delete", b"post", b"BREW"]), st.sampled_from(["a", "b", "c", "a,c", "b,c"]),
    st.dictionaries(st.sampled_from(["scope", "scp", "c"]), values), st.sampled_from(["192.0.2.9", "198.51.100.1", "2001:db8::1"]), st.floats(0, 3e5),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(range(99)), options, max_size=4), options, st.lists(requests, min_size=1, max_size=8))
def test_more_options_never_let_anybody_in(some: dict[int, tuple[str, str]], more: tuple[str, str], asked: list[Any]) -> None:
    """Whoever is refused by some options is refused by the same ones and one more."""
    given = dict(some.values())
    given.pop(more[0], None)
    fewer = of(*(f"{name} = {value}" for name, value in given.items()))
    stricter = of(*(f"{name} = {value}" for name, value in (*given.items(), more)))
    for method, role, claims, ip, now in asked:
        who, where = caller(role, **claims), parse(ip)
        if fewer.judge(method, who, where, now) is not None:
            assert stricter.judge(method, who, where, now) is not None
