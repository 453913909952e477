"""Tests for gateway.routing.policy."""

from __future__ import annotations

import pytest

from gateway.routing.policy import Policy
from gateway.verdicts import Reason


def verdict(policy: Policy, method: bytes = b"GET", role: str = "user", **claims: object) -> Reason | None:
    """Why not, or None."""
    refused = policy.judge(method, role, claims)
    return refused.reason if refused is not None else None


def test_open() -> None:
    """A policy that asks nothing says so."""
    assert Policy().open
    assert not Policy(methods=["GET"]).open


def test_methods() -> None:
    """405 names what is allowed, and comes before 403; GET includes HEAD."""
    policy = Policy(methods=["GET", "POST"], roles=["admin"])
    refused = policy.judge(b"DELETE", "user", {})
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
    assert (verdict(Policy(scopes=["a", "b"]), **claims) is None) is passes


@pytest.mark.parametrize(
    ("claims", "passes"),
    [
        ({"d": "x"}, True), ({"d": "y"}, True), ({"d": "xy"}, False), ({"d": ["q", "y"]}, True), ({"d": [["y"]]}, False), ({"d": {"x": 1}}, False),
        ({"d": None}, False), ({}, False), ({"d": 1}, True), ({"d": True}, True), ({"d": 1.0}, False),
    ],
)  # fmt: skip
def test_claims(claims: dict[str, object], passes: bool) -> None:
    """A claim is, or holds, one of the values; unknown types never match."""
    assert (verdict(Policy(claims=[("d", ["x", "y", "1", "true"])]), **claims) is None) is passes


def test_nested_claims() -> None:
    """A dotted name reaches into objects; a claim of that very name wins."""
    policy = Policy(claims=[("realm.team", ["red"])])
    assert verdict(policy, realm={"team": "red"}) is None
    assert verdict(policy, **{"realm.team": "blue", "realm": {"team": "red"}}) is Reason.POLICY
