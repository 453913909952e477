"""Tests for gateway.http.cuts: a head known by its rest is read as the whole head is."""

from __future__ import annotations

import random

import pytest

from gateway.http.cuts import SLOTS
from gateway.http.faults import HeadFault
from gateway.http.fields import FieldRules
from gateway.http.heads import RequestHeads

RULES = FieldRules(drop=frozenset((b"x-user-id",)), withhold=frozenset((b"x-forwarded-for",)), note=frozenset((b"origin",)))


def said(heads: RequestHeads, raw: bytes) -> object:
    """All that a head says, by the short way."""
    try:
        head, authorization, more = heads.read(raw)
    except HeadFault as fault:
        return fault.status
    fields = sorted((head.block + more).split(b"\r\n"))
    return head.method, head.target, head.host, head.http11, head.keep_alive, head.length, authorization, sorted(head.noted), fields


def plainly(raw: bytes) -> object:
    """The same by a parser that remembers nothing."""
    try:
        head = RequestHeads(RULES).parse(raw)
    except HeadFault as fault:
        return fault.status
    fields = sorted(head.block.split(b"\r\n"))
    return head.method, head.target, head.host, head.http11, head.keep_alive, head.length, head.authorization, sorted(head.noted), fields


def taught(*names: bytes) -> RequestHeads:
    """A parser that has learned that lines of these names are new each time."""
    heads = RequestHeads(RULES)
    for number in range(100):
        heads.read(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"\r\n".join(b"%b: %d" % (name, number) for name in names))
    return heads


@pytest.mark.parametrize("seed", range(4))
def test_the_short_way_says_the_same(seed: int) -> None:
    """Ten thousand heads, with lines that are cut out, repeated, misspelt or named by Connection, read as a fresh parser reads them."""
    dice = random.Random(seed)
    heads = taught(b"traceparent", b"Cookie", b"X-Trace")
    values = [b"", b"a", b" a", b"a ", b"a\tb", b"\xe4", b"a\x00", b"a\rb", b"Bearer t"]
    names = [b"traceparent", b"Traceparent", b"Cookie", b"cookie", b"X-Trace", b"X-User-ID", b"Origin", b"Authorization", b"authorization", b"Accept", b"Transfer-Encoding"]
    connections = [b"", b"", b"\r\nConnection: keep-alive", b"\r\nConnection: close", b"\r\nConnection: x-trace", b"\r\nConnection: keep-alive, cookie"]
    for number in range(10_000):
        fields = [b"%b: %b" % (dice.choice(names), dice.choice([*values, b"new %d" % number])) for _ in range(dice.randrange(5))]
        raw = b"%b /%d HTTP/1.%d\r\nHost: h" % (dice.choice([b"GET", b"GET", b"HEAD", b"CONNECT"]), dice.choice([1, number]), dice.random() < 0.9) + b"".join(b"\r\n" + field for field in fields) + dice.choice(connections)
        assert said(heads, raw) == plainly(raw), raw


def test_heads_are_shared() -> None:
    """A head that differs in lines that are new each time is known by its rest; no secret is kept in it."""
    heads = taught(b"traceparent", b"Cookie")
    raw = b"GET / HTTP/1.1\r\nHost: h\r\nCookie: s=%d\r\nAccept: a\r\ntraceparent: 00-%d"
    for number in range(3):
        heads.read(raw % (number, number))
    first, _, more = heads.read(raw % (7, 8))
    again, _, _ = heads.read(raw % (9, 10))
    assert first is again
    assert (first.block, sorted(more.split(b"\r\n"))) == (b"Accept: a\r\n", [b"", b"Cookie: s=7", b"traceparent: 00-8"])
    for number in range(3):
        heads.read(b"GET /%d HTTP/1.1\r\ncookie: s=%d\r\nHost: h" % (number, 1))
    assert not any(b"s=" in key for memo in (heads._heads, heads._fields) for key in memo.young)


@pytest.mark.parametrize("name", [b"Authorization", b"authorization"])
def test_tokens_are_cut_out(name: bytes) -> None:
    """A head is known by its rest whoever sends it, and however usual clients spell Authorization."""
    heads = RequestHeads(RULES)
    raw = b"GET / HTTP/1.1\r\nHost: h\r\n%b: Bearer t%d\r\nAccept: a"
    for number in range(3):
        heads.read(raw % (name, number))
    first, value, _ = heads.read(raw % (name, 7))
    again, _, _ = heads.read(raw % (name, 8))
    assert first is again
    assert value == (b"Bearer t7",)
    assert heads.recall(raw % (name, 9)) is not None
    assert not any(b"Bearer" in key for memo in (heads._heads, heads._fields) for key in memo.young)


@pytest.mark.parametrize("line", [b"Authorization: a", b"authorization: a", b"traceparent: a"])
def test_a_field_before_the_request_line(line: bytes) -> None:
    """The one empty line that may stand before a request makes no field of what follows it, however well the rest is known."""
    heads = taught(b"traceparent")
    for _ in range(4):
        heads.read(b"\r\nGET / HTTP/1.1\r\nHost: h")
    assert heads.recall(b"\r\nGET / HTTP/1.1\r\nHost: h") is not None
    for _ in range(4):
        assert said(heads, b"\r\n" + line + b"\r\nGET / HTTP/1.1\r\nHost: h") == 400


def test_no_more_than_so_many_names() -> None:
    """A client that makes names up stretches nothing, and they are forgotten when nobody sends them."""
    heads = taught(*(b"X-Made-Up-%d" % number for number in range(50)))
    assert len(heads._cuts.patterns) == SLOTS
    assert len(heads._cuts._counts) <= 256
    for _ in range(2 * 4096 + 2):
        heads.read(b"GET / HTTP/1.1\r\nHost: h")
    assert heads._cuts.patterns == ()


def test_the_number_of_fields() -> None:
    """Cutting lines out does not make room for more than max_fields."""
    heads = RequestHeads(RULES, max_fields=8)
    raw = b"GET / HTTP/1.1\r\nHost: h" + b"".join(b"\r\nA%d: a" % number for number in range(7))
    for number in range(100):
        heads.read(raw)
        with pytest.raises(HeadFault) as caught:
            heads.read(raw + b"\r\nCookie: %d" % number)
        assert caught.value.status == 431
