"""Tests for gateway.http.heads: what a head is read as. What it refuses is in tests/system and the fuzz."""

from __future__ import annotations

import pytest

from gateway.http.faults import HeadFault
from gateway.http.fields import FieldRules, trailer_block
from gateway.http.heads import RequestHead, RequestHeads
from gateway.http.memo import OVERHEAD, Memo
from gateway.http.response_heads import ResponseHeads

RULES = FieldRules(
    drop=frozenset((b"x-user-id",)),
    withhold=frozenset((b"x-forwarded-for",)),
    note=frozenset((b"user-agent",)),
)


def head(*fields: bytes, line: bytes = b"GET /a?b HTTP/1.1") -> RequestHead:
    """A request head with a Host, parsed."""
    return RequestHeads(RULES).parse(b"\r\n".join((line, b"Host: h", *fields)))


def test_what_goes_on() -> None:
    """End-to-end fields go on as sent and in order; framing, hop-by-hop and dropped ones do not."""
    read = head(
        b"aCCept:  x ", b"X-User-Id: evil", b"x_user.ID: evil", b"Connection: X-Hop", b"X-Hop: 1", b"User-Agent: u",
        b"X-Forwarded-For: 1.2.3.4", b"X_Forwarded_For: 1.2.3.4", b"TE: trailers", b"Upgrade: h2c", b"Cookie: a", b"Cookie: b",
        b"Authorization: Bearer t", b"X-Empty:",
    )  # fmt: skip
    assert read.block == b"aCCept: x\r\nUser-Agent: u\r\nCookie: a\r\nCookie: b\r\nX-Empty: \r\n"
    assert read.noted == [(b"user-agent", b"u"), (b"x-forwarded-for", b"1.2.3.4")]
    assert read.authorization == (b"Bearer t",)
    assert (read.method, read.target, read.host, read.http11) == (b"GET", b"/a?b", b"h", True)


@pytest.mark.parametrize(
    ("fields", "length"),
    [((), 0), ((b"Content-Length: 12",), 12), ((b"Transfer-Encoding: chunked",), -1), ((b"Transfer-Encoding: Chunked",), -1)],
)
def test_body_length(fields: tuple[bytes, ...], length: int) -> None:
    """A body's length is declared, chunked, or none."""
    assert head(*fields).length == length


@pytest.mark.parametrize(
    ("line", "fields", "keep"),
    [
        (b"GET / HTTP/1.1", (), True),
        (b"GET / HTTP/1.1", (b"Connection: Close",), False),
        (b"GET / HTTP/1.1", (b"Connection: keep-alive", b"Connection: close"), False),
        (b"GET / HTTP/1.0", (), False),
        (b"GET / HTTP/1.0", (b"Connection: Keep-Alive",), True),
    ],
)
def test_keep_alive(line: bytes, fields: tuple[bytes, ...], keep: bool) -> None:
    """A connection persists by version and by what Connection says."""
    assert head(*fields, line=line).keep_alive is keep


def test_secrets_are_not_kept() -> None:
    """Lines with secrets in them are never in the memo."""
    heads = RequestHeads(RULES)
    for secret in (b"Authorization: Bearer abc", b"authorization: Bearer abc", b"Cookie: abc", b"Proxy-Authorization: abc"):
        heads.parse(b"GET / HTTP/1.1\r\nHost: h\r\n" + secret)
    assert not any(b"abc" in line for line in heads._lines.memo.young)


@pytest.mark.parametrize("value", [b"Bearer a\x00b", b"Bearer \x01", b"Bearer a\x7f", b"Bearer a\rb"])
def test_authorization_is_judged_like_any_line(value: bytes) -> None:
    """The short way for Authorization lets no control character through."""
    with pytest.raises(HeadFault):
        head(b"Authorization: " + value)


def test_outer_blanks_of_authorization() -> None:
    """Outer blanks of a value are no part of it."""
    assert head(b"Authorization:   Bearer t \t").authorization == (b"Bearer t",)


@pytest.mark.parametrize(("framing", "length"), [(b"Content-Length: 5", 5), (b"Transfer-Encoding: chunked", -1)])
def test_heads_of_requests_with_bodies_are_known(framing: bytes, length: int) -> None:
    """They are known as a whole, with their body's length; their fields never stand for those of a request without one."""
    heads = RequestHeads(RULES)
    fields = b" HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n" + framing
    for _ in range(3):
        heads.read(b"POST /a" + fields)
    known = heads.recall(b"POST /a" + fields)
    assert known is not None
    assert known[0].length == length
    for path in (b"/b", b"/c", b"/d"):
        assert heads.recall(b"PUT " + path + fields) is None
        assert heads.read(b"PUT " + path + fields)[0].length == length
    waits = b"POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n" + framing
    for _ in range(3):
        assert heads.read(waits)[0].expect_continue
    assert heads.recall(waits) is None


def test_a_hostile_client_cannot_grow_the_memo() -> None:
    """Ever new lines take no more than the memo's bound, and hot lines stay."""
    heads = RequestHeads(RULES, memo_bytes=200_000)
    memo = heads._lines.memo
    hot = b"Accept: everybody-sends-this"
    for number in range(5000):
        heads.parse(b"GET / HTTP/1.1\r\nHost: h\r\n%s\r\nX-New: %d" % (hot, number))
        assert hot in memo.young or hot in memo._old
    assert len(memo) * OVERHEAD < 200_000


def test_memo_forgets_what_nobody_asks_for() -> None:
    """Two generations: what was not asked for during one of them is gone."""
    memo: Memo[int] = Memo(20 * OVERHEAD)
    memo.keep(b"old", 1)
    for number in range(1, 40):
        memo.keep(b"%d" % number, number)
    assert b"old" not in memo.young
    assert memo.recall(b"old") is None
    assert memo.recall(b"39") == 39 or memo.young.get(b"39") == 39


def test_answers() -> None:
    """An answer's head: dropped, withheld and hop-by-hop fields apart."""
    rules = FieldRules(frozenset((b"x-request-id",)), frozenset((b"access-control-allow-origin",)), frozenset())
    read = ResponseHeads(rules).parse(
        b"HTTP/1.1 200 Fine thanks\r\nContent-Length: 5\r\nX-Request-ID: t\r\nAccess-Control-Allow-Origin: *\r\n"
        b"Connection: X-Hop, close\r\nX-Hop: 1\r\nServer: s\r\nWWW-Authenticate: Basic"
    )
    assert (read.status, read.reason, read.length, read.keep_alive) == (200, b"Fine thanks", 5, False)
    assert read.block == b"Server: s\r\nWWW-Authenticate: Basic\r\n"
    assert read.noted == [(b"access-control-allow-origin", b"*")]


def test_answers_of_1_0_servers() -> None:
    """An HTTP/1.0 answer ends its connection unless it says otherwise."""
    heads = ResponseHeads(RULES)
    assert heads.parse(b"HTTP/1.0 200 OK").keep_alive is False
    assert heads.parse(b"HTTP/1.0 200 OK\r\nConnection: keep-alive").keep_alive is True
    assert heads.parse(b"HTTP/1.1 200 ").length == -2


def test_trailers() -> None:
    """Framing, routing and identity have no place in trailers (RFC 9110 section 6.5.1)."""
    lines = [b"X-Sum: 1", b"Host: x", b"content-length: 1", b"X_User_ID: r", b"Authorization: b", b"X-Forwarded-For: 1"]
    assert trailer_block(RULES, lines) == b"X-Sum: 1\r\n"


@pytest.mark.parametrize("field", [b"Transfer-Encoding: chunked\t", b"Content-Length:\t5", b"Content-Length: 5\t"])
def test_tabs_beside_framing(field: bytes) -> None:
    """A tab beside a framing value is refused, for llhttp refuses it (found by fuzzing)."""
    with pytest.raises(HeadFault):
        head(field)
