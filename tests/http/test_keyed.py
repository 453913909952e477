"""Tests for gateway.http.keyed: a head that is known but for the API key in it is read as any other, and the key is kept nowhere."""

from __future__ import annotations

import random

import pytest

from gateway.exchange import request_rules
from gateway.http.faults import HeadFault
from gateway.http.heads import RequestHead, RequestHeads
from gateway.http.keyed import KeyedHeads
from tests.http.oracles import mutate

RULES = request_rules("X-Forwarded-For", frozenset(), "X-API-Key")
LINE = b"GET /a?b HTTP/1.1\r\nHost: h\r\n"


def keyed() -> KeyedHeads:
    """A parser."""
    return KeyedHeads(RULES, "X-API-Key")


def facts(head: RequestHead, authorization: tuple[bytes, ...], more: bytes) -> object:
    """All that is read from a head, but for the order of lines that are cut out."""
    lines = sorted((head.block + more).split(b"\r\n"))
    return (head.method, head.target, head.host, head.http11, head.length, head.keep_alive, head.expect_continue,
            authorization, sorted(head.noted), head.plain, lines)  # fmt: skip


def read(heads: RequestHeads, raw: bytes) -> object:
    """The same, or why it is refused."""
    try:
        return facts(*heads.read(raw))
    except HeadFault as fault:
        return fault.status


def test_the_rest_is_known_and_the_key_is_told() -> None:
    """From the third request on the head is not parsed again, whoever's key is in it, and each request has its own."""
    heads = keyed()
    parsed = 0
    parse = heads._parse

    def counted(head: bytes) -> RequestHead:
        nonlocal parsed
        parsed += 1
        return parse(head)

    heads._parse = counted  # type: ignore[method-assign]
    for number in range(10):
        head, authorization, _ = heads.read(LINE + b"X-API-Key: secret%d\r\nAccept: x" % number)
        assert head.noted == [(b"x-api-key", b"secret%d" % number)]
        assert (authorization, head.block) == ((), b"Accept: x\r\n")
    assert parsed == 3  # two, and that which is kept
    assert heads.read(LINE + b"Accept: x")[0].noted == []


def test_the_key_is_kept_nowhere() -> None:
    """No memo has a key in it, however often it came and however it is spelt."""
    heads = keyed()
    for _ in range(5):
        for name in (b"X-API-Key", b"x-api-key", b"X_Api_Key"):
            heads.read(LINE + name + b": hunter2\r\nUser-Agent: u")
            heads.read(LINE + name + b": hunter2\r\nX-API-Key: hunter2")
    for memo in (heads._heads, heads._fields, heads._lines.memo, heads._keyed):
        for young, value in memo.young.items():
            assert b"hunter2" not in young
            assert "hunter2" not in repr([getattr(value, name, None) for name in ("noted", "raw", "block")])


@pytest.mark.parametrize(
    "fields",
    [
        b"X-API-Key: a\r\nX-API-Key: b", b"X-API-Key: a\r\nAuthorization: Bearer x", b"x-api-key: b\r\nX-API-Key: a", b"X-API-Key:  a ",
        b"X-API-Key: a\x00", b"X-API-Key: ", b"X-API-Key: a\r\nConnection: X-API-Key, close", b"X-API-Key: a\r\nConnection: X-A\r\nX-A: 1",
        b"X-API-Key: a\r\nContent-Length: 3", b"X-API-Key: a\r\nTransfer-Encoding: chunked", b"X-API-Key: a\r\nHost: other",
        b"X-API-Key: a\r\nCookie: c=1", b"X-API-Key: a\r\ntraceparent: 00-1", b"X-API-Key: a\r\n b", b"X-API-Key: a\r\nExpect: 100-continue",
    ],
)  # fmt: skip
def test_as_any_other(fields: bytes) -> None:
    """A second credential, a body, a name in Connection and blanks are read, or refused, as by a parser that has never seen them, each time."""
    heads = keyed()
    for _ in range(4):
        assert read(heads, LINE + fields) == read(RequestHeads(RULES), LINE + fields)


def test_a_key_in_the_place_of_the_request_line() -> None:
    """A key's line before the request line is no head, also when the rest of it is known."""
    heads = keyed()
    for _ in range(3):
        assert isinstance(read(heads, b"\r\n" + LINE + b"X-API-Key: a"), tuple)
    assert read(heads, b"\r\nX-API-Key: a\r\n" + LINE[:-2]) == 400


def test_mutated_heads() -> None:
    """No damaged head with a key in it is read otherwise for having come before, or for what has come before it."""
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    heads = keyed()
    for _ in range(2000):
        lines = mutate(rng).split(b"\r\n")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice((b"X-API-Key: k", b"x-api-key: k", b"X-API-Key: a b", b"X-Api_Key: k")))
        raw = b"\r\n".join(lines)
        expected = read(RequestHeads(RULES), raw)
        for _ in range(3):
            assert read(heads, raw) == expected, (seed, raw)
