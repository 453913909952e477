"""Tests for gateway.routing.expression."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from gateway.routing.expression import MAX_LENGTH, BadExpression, Expression
from gateway.settings import SettingsError, parse

INI = "[jwt]\nsecret = 0123456789abcdef0123456789abcdef\n[route /a]\nupstream = http://a\nrequire.expr = "


def true(text: str, /, now: float = 0.0, **claims: Any) -> bool:
    """Whether it is true for ann, a clerk with two scopes."""
    return Expression(text).true(
        claims=claims, user="ann", role="clerk", roles=["clerk"], scopes=["a", "b"], method=b"GET", path=b"/x/y", ip="192.0.2.1", now=now
    )


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('user == "ann" && role == "clerk" && method == "GET"', True), ('path.startsWith("/x/") && ip == "192.0.2.1"', True),
        ('"a" in scopes && size(scopes) == 2', True), ('scopes.exists(s, s == "c")', False), ("claims.level >= 3", True), ('claims["level"] == 3', True),
        ("claims.o.deep[1].x == 1.5", True), ("claims.o.deep.exists(each, each == true)", True), ('now < timestamp("1970-01-01T00:00:01Z")', True),
        ('now.getHours("Europe/Berlin") == 1', True), ("has(claims.nope)", False), ("claims.nothing == null", True), ("claims.flag", True), ("claims.level", False),
        ("'clerk' in roles", True), ("claims.nope == 1", False), ("claims.nope != 1", False), ("claims.level == 1 || claims.nope", False), ("1 / 0 == 1", False), ("!(1 / 0 == 1)", False),
        ("claims.text == 3", False), ("claims.big > 0", False), ("claims.surrogate == 'x'", False), ("claims.o.x.y.z == 1", False),
        ('path.matches("^(/[a-z]+)+$")', True), ("claims.level in [1, 2, 3]", True),
    ],
)  # fmt: skip
def test_verdicts(text: str, verdict: bool) -> None:
    """True is true; false, an error and anything else refuse."""
    claims = {"level": 3, "flag": True, "text": "3", "nothing": None, "o": {"deep": [True, {"x": 1.5}]}}
    claims |= {"big": 1 << 70} if "big" in text else {}
    claims |= {"surrogate": "\ud800"} if "surrogate" in text else {}
    assert true(text, **claims) is verdict


def test_a_name_is_no_variable() -> None:
    """A claim never becomes a variable of the expression."""
    assert not true('role == "admin" || claims.user == "x"', role="admin", user="root")


def test_loops_end() -> None:
    """An expression that would go round a million times is ended, and refuses."""
    loops = "claims.l.all(a, claims.l.all(b, claims.l.all(c, a + b + c >= 0)))"
    assert true(loops, l=list(range(10)))
    assert not true(loops, l=list(range(100)))
    assert not true("!(" + loops.replace(">= 0", "< 0 || true") + ")", l=list(range(100)))


def test_claims_without_end() -> None:
    """More claims than any rule needs, or deeper ones, are not looked at: they refuse."""
    assert true("size(claims.l) > 0", l=[1] * 900)
    assert not true("size(claims.l) > 0", l=[1] * 1000)
    assert not true("size(claims.l) > 0", l=[[[1] * 100] * 5] * 5)
    deep: Any = 1
    for _ in range(15):
        deep = {"a": deep}
    assert true("has(claims.l)", l=deep)
    assert not true("has(claims.l)", l=[[deep]])
    assert true("user == 'ann'", l=[[deep]])


def test_slow_patterns_are_none() -> None:
    """A pattern that takes other engines ages is matched in linear time."""
    assert not true('claims.t.matches("^(a+)+$")', t="a" * 5000 + "!")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 +", "Syntax error"), ("nobody == 1", "undeclared reference to 'nobody'"), ("role", "string; expected true or false"), ("1", "int; expected true or false"),
        ("role == 1", "no matching overload"), ("claims.exists(c)", "undeclared"), ("(" * 40 + "true" + ")" * 40, "recursion limit"), ("true" + " || true" * 1000, "longer than 4096"),
        ("exec('x')", "undeclared reference to 'exec'"), ("role.nope()", "undeclared reference"),
        ("path.matches(claims.pattern)", "the pattern in quotes"), ("path.matches( user )", "the pattern in quotes"),
    ],
)  # fmt: skip
def test_bad_ones(text: str, says: str) -> None:
    """What can't decide is refused when the file is read, with its place and reason."""
    assert len(text) <= MAX_LENGTH or "longer" in says
    with pytest.raises(BadExpression) as caught:
        Expression(text)
    assert says in str(caught.value)
    with pytest.raises(SettingsError) as problem:
        parse(INI + text, {})
    assert "gateway.ini:5: [route /a] require.expr: " in str(problem.value)
    assert "an expression in CEL: " in str(problem.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is missing, the file's problem is the line to install it."""
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(SettingsError) as problem:
        parse(INI + "true", {})
    assert "pip install 'zero-trust-gateway[cel]'" in str(problem.value)
    parse(INI.replace("require.expr = ", ""), {})
