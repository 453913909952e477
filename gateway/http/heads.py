# -*- test-case-name: tests.http.test_heads -*-
"""
Lets a head through that can be read in one way only (RFC 9112); refuses any other with
400, 414, 431, 501 or 505.

Heads are split, not tokenised: clients repeat nearly all of their field lines, so each
line is looked up in a bounded memo of lines seen before, which says what kind it is and
which bytes go on. A line is parsed and validated only when it is new. It is HPACK's idea
for HTTP/1. Lines with secrets in them are never kept.
"""

from __future__ import annotations

from collections.abc import Container
from copy import copy
from dataclasses import dataclass
from typing import Any

from gateway.http.faults import HeadFault
from gateway.http.grammar import (
    AUTHORITY,
    COMMON_LINE,
    FIELD,
    LENGTH,
    ONE_CODING,
    ORIGIN_FORM,
    REQUEST_LINE,
    STATUS_LINE,
)
from gateway.http.memo import Memo

__all__ = [
    "FieldRules",
    "HeadFault",
    "RequestHead",
    "RequestHeads",
    "ResponseHead",
    "ResponseHeads",
]

# What a field line is. Kinds up to _NOTED need no look at the head as a whole.
(
    _PLAIN, _DROPPED, _NOTED, _WITHHELD, _HOST, _LENGTH, _CODING, _CONNECTION, _EXPECT,
    _AUTHORIZATION, _KEEP_ALIVE,
) = range(11)  # fmt: skip

_KINDS = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"authorization": _AUTHORIZATION,
    # RFC 9110 section 7.6.1, and the older ones that mean this connection only.
    b"keep-alive": _DROPPED,
    b"proxy-connection": _DROPPED,
    b"proxy-authenticate": _DROPPED,
    b"proxy-authorization": _DROPPED,
    b"te": _DROPPED,
    b"trailer": _DROPPED,
    b"upgrade": _DROPPED,
    b"http2-settings": _DROPPED,
}

#: Fields whose lines are never kept in a memo.
_SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

#: Longer lines are parsed each time.
_MAX_KEPT = 1024

CHUNKED = -1
UNTIL_CLOSE = -2

#: Bytes of a value that need no second look, and those it may not begin or end with.
_VISIBLE = bytes(range(0x21, 0x7F)) + b" \t"
_BLANK = (b"", b" ", b"\t")

_FOLD = bytes.maketrans(b"_.", b"--")


@dataclass(frozen=True, slots=True)
class FieldRules:
    """
    What is done with the fields an application cares for; lower-case names.

    @ivar drop: never forwarded, in any spelling: C{_} and C{.} count as C{-}.
    @ivar withhold: not forwarded but noted; other spellings are dropped.
    @ivar note: noted, and forwarded.
    """

    drop: frozenset[bytes]
    withhold: frozenset[bytes]
    note: frozenset[bytes]

    def kind(self, name: bytes) -> int:
        """What a field of that lower-case name is to the application."""
        folded = name.translate(_FOLD)
        if folded in self.drop:
            return _DROPPED
        if name in self.withhold:
            return _WITHHELD
        if folded in self.withhold:
            return _DROPPED
        return _NOTED if name in self.note else _PLAIN


#: (kind, lower-case name, value, bytes to forward)
_Line = tuple[int, bytes, bytes, bytes]


class _Lines:
    """Field lines, by way of the memo."""

    def __init__(self, rules: FieldRules, memo_bytes: int, kinds: dict[bytes, int]) -> None:
        self._rules = rules
        self._kinds = kinds
        self.memo: Memo[_Line] = Memo(memo_bytes)

    def learn(self, line: bytes, status: int) -> _Line:
        """Parse a line that is not among the young ones."""
        if (
            line.startswith(b"Authorization: ")
            and not line.translate(None, _VISIBLE)
            and line[15:16] not in _BLANK
            and line[-1:] not in _BLANK
            and b"authorization" in self._kinds
        ):
            # New with each user, so never in the memo; the grammar in one pass.
            return _AUTHORIZATION, b"authorization", line[15:], b""
        known = self.memo.recall(line)
        if known is not None:
            return known
        match = FIELD.fullmatch(line)
        if match is None:
            raise HeadFault(status, "a field line")
        name, value = match.groups()
        lower = name.lower()
        kind = self._kinds.get(lower)
        if kind is None:
            kind = self._rules.kind(lower)
        elif kind == _DROPPED and lower in self._rules.withhold:
            kind = _WITHHELD
        if kind == _HOST and AUTHORITY.fullmatch(value) is None:
            raise HeadFault(status, "Host")
        if kind in (_LENGTH, _CODING) and b"\t" in line:
            # Blanks around framing: llhttp refuses a tab, so this is not beyond doubt.
            raise HeadFault(status, "a tab beside framing")
        if kind == _LENGTH and LENGTH.fullmatch(value) is None:
            raise HeadFault(status, "Content-Length")
        if kind == _CONNECTION and value.lower() == b"keep-alive":
            kind = _KEEP_ALIVE
        forward = b"%s: %s\r\n" % (name, value) if kind in (_PLAIN, _NOTED) else b""
        known = (kind, lower, value, forward)
        if len(line) <= _MAX_KEPT and lower not in _SECRET:
            self.memo.keep(line, known, 3 * len(line))
        return known


class RequestHead:
    """
    One request's head.

    @ivar method: as sent.
    @ivar target: origin form, path and query as sent; or C{*}.
    @ivar http11: whether the client speaks 1.1; else 1.0.
    @ivar host: the Host field; empty only for 1.0.
    @ivar length: of the body: 0, declared bytes, or -1 for chunked.
    @ivar keep_alive: whether the client wants to keep the connection.
    @ivar expect_continue: whether it waits for C{100 Continue}.
    @ivar authorization: the values of all Authorization fields.
    @ivar block: the end-to-end fields to forward, a CRLF behind each.
    @ivar noted: (lower-case name, value) of the fields the rules note or withhold.
    @ivar plain: HTTP/1.1, persistent, and not HEAD: nothing odd about its answer.
    @ivar raw: the head as it came.
    @ivar plan: the application's own, kept with a head that is shared.
    """

    __slots__ = (
        "authorization", "block", "expect_continue", "host", "http11", "keep_alive", "length",
        "method", "noted", "plain", "plan", "raw", "target",
    )  # fmt: skip

    method: bytes
    target: bytes
    http11: bool
    host: bytes
    block: bytes
    noted: list[tuple[bytes, bytes]]
    raw: bytes
    keep_alive: bool
    authorization: tuple[bytes, ...]
    plain: bool

    def __init__(self) -> None:
        self.length = 0
        self.expect_continue = False
        self.plan: Any = None

    @property
    def lines(self) -> list[bytes]:
        """All field lines as sent."""
        return field_lines(self.raw)


def field_lines(raw: bytes) -> list[bytes]:
    """The field lines of a request's head as it came."""
    lines = raw.split(b"\r\n")
    return lines[2:] if not lines[0] else lines[1:]


class RequestHeads:
    """
    The parser of request heads.

    @param max_request_line: bytes; 414 beyond.
    @param max_fields: 431 beyond.
    @param memo_bytes: what the memo of field lines may take.
    @ivar vouched: values of Authorization fields that have been here before, in the
        application's keeping: they need no second look.
    """

    vouched: Container[bytes] = ()

    def __init__(
        self,
        rules: FieldRules,
        max_request_line: int = 8192,
        max_fields: int = 100,
        memo_bytes: int = 4 << 20,
    ) -> None:
        self._lines = _Lines(rules, memo_bytes, _KINDS)
        self._max_line = max_request_line
        self._max_fields = max_fields
        self._heads: Memo[RequestHead] = Memo(memo_bytes)
        self._once: set[int] = set()

    def parse(self, head: bytes) -> RequestHead:
        """
        Parse everything before the blank line.

        @raise HeadFault: when it is not one unambiguous request.
        """
        return self._parse(head)

    def read(self, head: bytes) -> tuple[RequestHead, tuple[bytes, ...]]:
        """
        The same for clients that repeat a whole head but for its token: known by the rest of
        it, the head is shared, and the token is handed out beside it.

        @return: the head, which must not be changed (its C{authorization} and C{raw} are not
            to be used), and the values of all Authorization fields.
        """
        at = head.find(b"\r\nAuthorization: ")
        if at < 0:
            key, value = head, b""
        else:
            end = head.find(b"\r\n", at + 17)
            if end < 0:
                key, value = head[:at], head[at + 17 :]
            else:
                key, value = head[:at] + head[end:], head[at + 17 : end]
        known = self._heads.young.get(key)
        if known is None:
            parsed = self._parse(head)
            if len(key) <= _MAX_KEPT and parsed.plain and not parsed.length:
                self._remember(key, parsed)
            return parsed, parsed.authorization
        if at < 0:
            return known, ()
        if value not in self.vouched and (
            value.translate(None, _VISIBLE) or value[:1] in _BLANK or value[-1:] in _BLANK
        ):
            parsed = self._parse(head)
            return parsed, parsed.authorization
        return known, (value,)

    def _remember(self, key: bytes, parsed: RequestHead) -> None:
        """
        Keep a head that is seen for the second time: what is new each time costs no room.
        Never one with a secret in it, apart from the token that was taken out.
        """
        if not _second_sight(self._once, key):
            return
        kept = copy(parsed)
        kept.authorization, kept.raw, kept.plan = (), b"", None
        self._heads.keep(key, kept, 4 * len(key) + 1000)

    def _parse(self, head: bytes) -> RequestHead:
        lines = head.split(b"\r\n")
        first = lines.pop(0)
        if not first and lines:  # RFC 9112 section 2.2: one empty line is skipped
            first = lines.pop(0)
        parsed = RequestHead()
        match = COMMON_LINE.fullmatch(first)
        if match is not None and len(first) <= self._max_line and match[1] != b"CONNECT":
            parsed.method, parsed.target, minor = match.groups()
            absolute = b""
        else:
            parsed.method, absolute, minor = self._uncommon(first)
        if len(lines) > self._max_fields:
            raise HeadFault(431, "fields")
        parsed.http11 = minor == b"1"
        parsed.raw = head
        forward: list[bytes] = []
        parsed.noted = noted = []
        host = b""
        authorization: tuple[bytes, ...] = ()
        special: list[_Line] | None = None
        young = self._lines.memo.young
        for line in lines:
            known = young.get(line) or self._lines.learn(line, 400)
            kind = known[0]
            if kind == _PLAIN:
                forward.append(known[3])
            elif kind == _HOST:
                if host:
                    raise HeadFault(400, "Host repeated")
                host = known[2]
            elif kind == _AUTHORIZATION:
                authorization += (known[2],)
            elif kind > _WITHHELD:
                if special is None:
                    special = []
                special.append(known)
            elif kind != _DROPPED:
                noted.append((known[1], known[2]))
                if kind == _NOTED:
                    forward.append(known[3])
        if not host and parsed.http11:
            raise HeadFault(400, "no Host")
        parsed.host = host
        parsed.authorization = authorization
        parsed.keep_alive = parsed.http11
        if special is not None:
            self._special(parsed, special, forward)
        parsed.block = b"".join(forward)
        if absolute:
            parsed.target = _target(parsed.method, absolute, host)
        parsed.plain = parsed.http11 and parsed.keep_alive and parsed.method != b"HEAD"
        return parsed

    def _uncommon(self, first: bytes) -> tuple[bytes, bytes, bytes]:
        """Any other request line: what is wrong with it, or method, target and minor version."""
        if len(first) > self._max_line:
            raise HeadFault(414, "request line")
        match = REQUEST_LINE.fullmatch(first)
        if match is None:
            raise HeadFault(400, "request line")
        method, target, major, minor = match.groups()
        if major != b"1" or minor not in (b"0", b"1"):
            raise HeadFault(505, "version")
        return method, target, minor

    def _special(self, parsed: RequestHead, special: list[_Line], forward: list[bytes]) -> None:
        """The fields that say something about the message itself."""
        length: bytes | None = None
        coding: bytes | None = None
        connection: list[bytes] = []
        for kind, _name, value, _forward in special:
            if kind == _LENGTH:
                if length is not None:
                    raise HeadFault(400, "Content-Length repeated")
                length = value
            elif kind == _CODING:
                if coding is not None:
                    raise HeadFault(400, "Transfer-Encoding repeated")
                coding = value
            elif kind in (_CONNECTION, _KEEP_ALIVE):
                connection += _tokens(value, 400)
            elif kind == _EXPECT:
                if value.lower() != b"100-continue":
                    raise HeadFault(400, "Expect")
                parsed.expect_continue = parsed.http11
        parsed.length = _request_length(length, coding, parsed.http11)
        if connection:
            parsed.keep_alive = b"close" not in connection and (
                parsed.http11 or b"keep-alive" in connection
            )
            _take_named(forward, connection)


def _second_sight(once: set[int], key: bytes) -> bool:
    """Whether a head has been seen before and has no secret in it."""
    digest = hash(key)
    if digest not in once:
        if len(once) >= 4096:
            once.clear()
        once.add(digest)
        return False
    lower = key.lower()
    return not any(b"\r\n" + name in lower for name in _SECRET)


def _request_length(length: bytes | None, coding: bytes | None, http11: bool) -> int:
    """RFC 9112 section 6.3, with every doubtful case refused."""
    if coding is None:
        return int(length) if length is not None else 0
    if length is not None:
        raise HeadFault(400, "Content-Length and Transfer-Encoding")
    if coding.lower() == b"chunked":
        if not http11:
            raise HeadFault(400, "Transfer-Encoding in HTTP/1.0")
        return CHUNKED
    if ONE_CODING.fullmatch(coding) is None:
        raise HeadFault(400, "Transfer-Encoding")
    raise HeadFault(501, "an unknown transfer coding")


def _tokens(value: bytes, status: int) -> list[bytes]:
    """A comma-separated list of tokens in lower case (RFC 9110 section 5.6.1)."""
    found = [part.strip(b" \t") for part in value.lower().split(b",")]
    for token in found:
        if token and ONE_CODING.fullmatch(token) is None:
            raise HeadFault(status, "Connection")
    return found


def _take_named(forward: list[bytes], connection: list[bytes]) -> None:
    """Take the fields away that Connection names (RFC 9110 section 7.6.1)."""
    named = {name for name in connection if name not in (b"close", b"keep-alive", b"")}
    if named:
        forward[:] = [line for line in forward if line.partition(b":")[0].lower() not in named]


def _target(method: bytes, target: bytes, host: bytes) -> bytes:
    """Origin form of the target (RFC 9112 section 3.2)."""
    if method == b"CONNECT":
        raise HeadFault(501, "CONNECT")
    if target.startswith(b"/"):
        if ORIGIN_FORM.fullmatch(target) is None:
            raise HeadFault(400, "target")
        return target
    if target == b"*" and method == b"OPTIONS":
        return target
    scheme, separator, rest = target.partition(b"://")
    default = {b"http": b"80", b"https": b"443"}.get(scheme.lower())
    if not separator or default is None:
        raise HeadFault(400, "target")
    end = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
    authority, path = rest[:end], rest[end:]
    if not path.startswith(b"/"):
        path = b"/" + path
    if ORIGIN_FORM.fullmatch(path) is None or _place(authority, default) != _place(host, default):
        raise HeadFault(400, "target")
    return path


def _place(authority: bytes, default: bytes) -> tuple[bytes, bytes]:
    """An authority's host and port, for comparison (RFC 9110 section 4.2.3)."""
    match = AUTHORITY.fullmatch(authority)
    if match is None:
        raise HeadFault(400, "authority")
    return match[1].lower(), match[2] or default


class ResponseHead:
    """
    One answer's head.

    @ivar length: as declared: bytes, -1 for chunked, -2 when the connection's end ends it.
    @ivar opening: the status line we say it in and the end-to-end fields, as C{block} has
        them; a CRLF behind each.
    @ivar closing: what follows our own fields where the body has its declared length.
    @ivar plain: final, persistent, of a declared length, and its status has a body: nothing
        odd about it.
    See L{RequestHead} for the rest.
    """

    __slots__ = (
        "block", "closing", "http11", "keep_alive", "length", "noted", "opening", "plain",
        "reason", "status",
    )  # fmt: skip

    status: int
    reason: bytes
    opening: bytes
    closing: bytes
    plain: bool
    http11: bool
    length: int
    keep_alive: bool
    block: bytes
    noted: list[tuple[bytes, bytes]]


class ResponseHeads:
    """The parser of answers' heads; every fault is 502."""

    def __init__(self, rules: FieldRules, max_fields: int = 200, memo_bytes: int = 4 << 20) -> None:
        kinds = {
            name: kind
            for name, kind in _KINDS.items()
            if kind in (_LENGTH, _CODING, _CONNECTION, _DROPPED) and name != b"proxy-authenticate"
        }
        self._lines = _Lines(rules, memo_bytes, kinds)
        self._max_fields = max_fields
        self._status: dict[bytes, tuple[bool, int, bytes, bytes]] = {}
        self._heads: Memo[ResponseHead] = Memo(memo_bytes)
        self._once: set[int] = set()

    def _status_line(self, line: bytes) -> tuple[bool, int, bytes, bytes]:
        """Parse it, and remember it: there are only so many."""
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise HeadFault(502, "status line")
        first = b"HTTP/1.1 %s %s\r\n" % (match[2], match[3])
        known = match[1] == b"1", int(match[2]), match[3], first
        if len(self._status) < 256 and len(line) < 64:
            self._status[line] = known
        return known

    def parse(self, head: bytes) -> ResponseHead:
        """
        Parse everything before the blank line. Whoever gets it must not change it: within
        a second, all that changes in most answers' heads is nothing, so heads are shared.

        @raise HeadFault: (502) when it is not one unambiguous answer.
        """
        known = self._heads.young.get(head)
        if known is not None:
            return known
        parsed = self._parse(head)
        if len(head) <= _MAX_KEPT and _second_sight(self._once, head):
            self._heads.keep(head, parsed, 4 * len(head) + 1000)
        return parsed

    def _parse(self, head: bytes) -> ResponseHead:
        lines = head.split(b"\r\n")
        first = lines.pop(0)
        known = self._status.get(first) or self._status_line(first)
        if len(lines) > self._max_fields:
            raise HeadFault(502, "fields")
        parsed = ResponseHead()
        parsed.http11, parsed.status, parsed.reason, opening = known
        parsed.noted = noted = []
        forward: list[bytes] = []
        length: bytes | None = None
        coding: bytes | None = None
        connection: list[bytes] | None = None
        persistent = parsed.http11
        young = self._lines.memo.young
        for line in lines:
            kind, name, value, out = young.get(line) or self._lines.learn(line, 502)
            if kind == _PLAIN:
                forward.append(out)
            elif kind in (_NOTED, _WITHHELD):
                noted.append((name, value))
                if kind == _NOTED:
                    forward.append(out)
            elif kind == _LENGTH:
                if length is not None:
                    raise HeadFault(502, "Content-Length repeated")
                length = value
            elif kind == _CODING:
                if coding is not None or value.lower() != b"chunked":
                    raise HeadFault(502, "Transfer-Encoding")
                coding = value
            elif kind == _CONNECTION:
                connection = (connection or []) + _tokens(value, 502)
            elif kind == _KEEP_ALIVE:
                persistent = True
        if coding is not None:
            if length is not None or not parsed.http11:
                raise HeadFault(502, "Transfer-Encoding")
            parsed.length = CHUNKED
        else:
            parsed.length = int(length) if length is not None else UNTIL_CLOSE
        parsed.keep_alive = persistent
        if connection is not None:
            parsed.keep_alive = b"close" not in connection and (
                persistent or b"keep-alive" in connection
            )
            _take_named(forward, connection)
        parsed.block = b"".join(forward)
        parsed.opening = opening + parsed.block
        parsed.closing = b"Content-Length: %d\r\n\r\n" % parsed.length
        parsed.plain = (
            parsed.keep_alive
            and parsed.length >= 0
            and parsed.status >= 200
            and parsed.status not in (204, 304)
        )
        return parsed


#: Fields that say how a message is framed, routed or authenticated: never in trailers
#: (RFC 9110 section 6.5.1).
_NOT_IN_TRAILERS = frozenset(_KINDS) | frozenset(
    (
        b"cookie", b"set-cookie", b"content-encoding", b"content-type", b"content-range",
        b"cache-control", b"max-forwards",
    )
)  # fmt: skip


def trailer_block(rules: FieldRules, trailers: list[bytes]) -> bytes:
    """The trailer lines that may go on, a CRLF behind each."""
    kept: list[bytes] = []
    for line in trailers:
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower not in _NOT_IN_TRAILERS and rules.kind(lower) in (_PLAIN, _NOTED):
            kept.append(b"%s: %s\r\n" % (name, value.strip(b" \t")))
    return b"".join(kept)
