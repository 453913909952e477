# -*- test-case-name: tests.http.test_heads -*-
"""
Lets a request's head through that can be read in one way only (RFC 9112); refuses any other
with 400, 414, 431, 501 or 505.

Heads are split, not tokenised: clients repeat nearly all of their field lines, so each
line is looked up in a bounded memo of lines seen before (L{gateway.http.fields}), which is
HPACK's idea for HTTP/1; and a head that comes again as a whole is known as a whole.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from gateway.cores import HeadCore, HeadsCore
from gateway.http.cuts import SLOTS, Cuts
from gateway.http.faults import HeadFault
from gateway.http.fields import (
    AUTHORIZATION,
    BLANK,
    CHUNKED,
    CODING,
    CONNECTION,
    CONTENT_LENGTH,
    DROPPED,
    EXPECT,
    HOST,
    KEEP_ALIVE,
    KINDS,
    MAX_KEPT,
    NOTED,
    PLAIN,
    VISIBLE,
    WITHHELD,
    FieldRules,
    Line,
    Lines,
    second_sight,
    take_named,
    tokens,
)
from gateway.http.grammar import (
    AUTHORITY,
    COMMON_LINE,
    ONE_CODING,
    ORIGIN_FORM,
    REQUEST_LINE,
)
from gateway.http.memo import Memo


class RequestHead(HeadCore):
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

    def with_line(self, method: bytes, target: bytes) -> RequestHead:
        """The same fields behind another request line of HTTP/1.1; they have no body in them."""
        head = RequestHead()
        head.method, head.target = method, target
        head.http11, head.host, head.keep_alive = True, self.host, self.keep_alive
        head.block, head.noted = self.block, self.noted
        head.authorization, head.raw = (), b""
        head.plain = self.keep_alive and method != b"HEAD"
        return head

    @property
    def lines(self) -> list[bytes]:
        """All field lines as sent."""
        return field_lines(self.raw)


def field_lines(raw: bytes) -> list[bytes]:
    """The field lines of a request's head as it came."""
    lines = raw.split(b"\r\n")
    return lines[2:] if not lines[0] else lines[1:]


#: A head, which must not be changed (its C{authorization} and C{raw} are not to be used); the
#: values of all Authorization fields; further lines to forward.
Read = tuple[RequestHead, tuple[bytes, ...], bytes]


#: How clients spell it; any other way is understood, but parsed each time.
_TOKEN, _LOWER = b"\r\nAuthorization: ", b"\r\nauthorization: "


def _without_token(head: bytes) -> tuple[bytes, bytes | None]:
    """The head without its first Authorization line, and that line's value."""
    rest, found, behind = head.partition(_TOKEN)
    if not found:
        rest, found, behind = head.partition(_LOWER)
    if not found or not rest:  # or it stands before the request line
        return head, None
    value, end, behind = behind.partition(b"\r\n")
    return rest + end + behind, value


class RequestHeads(HeadsCore):
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
        self.rules = rules
        self._lines = Lines(rules, memo_bytes, KINDS)
        self._max_line = max_request_line
        self._max_fields = max_fields
        self._heads: Memo[RequestHead] = Memo(memo_bytes)
        self._fields: Memo[RequestHead] = Memo(memo_bytes)
        self._once: set[int] = set()
        self._cuts = Cuts()
        self._lines.saw = self._saw

    def parse(self, head: bytes) -> RequestHead:
        """
        Parse everything before the blank line.

        @raise HeadFault: when it is not one unambiguous request.
        """
        return self._parse(head)

    def read(self, head: bytes) -> Read:
        """
        The same for clients that repeat a whole head but for its token, and for a few lines
        that are new each time: known by the rest of it, the head is shared, and these are
        handed out beside it.
        """
        return self.recall(head) or self._unknown(head)

    def recall(self, head: bytes) -> Read | None:
        """The head, if the rest of it is known and what is not in the rest is in order."""
        # As L{_without_token}, without a call.
        rest, found, behind = head.partition(_TOKEN)
        if not found:
            rest, found, behind = head.partition(_LOWER)
        if found:
            if not rest:  # it stands before the request line
                return None
            value, end, behind = behind.partition(b"\r\n")
            rest += end + behind
        more = b""
        if self._cuts.patterns:
            cut = self._cuts.cut(rest)
            if cut is None:
                return None
            rest, more = cut
        known = self._heads.young.get(rest)
        if known is None:
            return None
        if not found:
            return known, (), more
        if value not in self.vouched and not self._in_order(value):
            return None
        return known, (value,), more

    def _unknown(self, head: bytes) -> Read:
        """
        A head whose rest is not known yet. It is kept when it is seen for the second time: what
        is new each time costs no room. Never one with a secret left in it.
        """
        rest, value = _without_token(head)
        parts = self._cuts.cut(rest)
        if parts is None:
            parsed = self._parse(head)
            return parsed, parsed.authorization, b""
        rest, more = parts
        line, _, fields = rest.partition(b"\r\n")
        found = self._behind_known_fields(line, fields)
        if found is not None and self._in_order(value):
            read: Read = found, () if value is None else (value,), more
        else:
            parsed = self._parse(head)
            read = parsed, parsed.authorization, b""
            if not parsed.plain or parsed.expect_continue:
                return read
        if (
            len(rest) <= MAX_KEPT
            and rest.count(b"\r\n") + SLOTS < self._max_fields
            and self._cuts.whole(rest)
        ):
            # Behind another request line, fields say the same only where no body belongs to them.
            if found is None and not parsed.length and self._again(b"\r\n" + fields):
                self._fields.keep(fields, self._kept(rest), 4 * len(fields) + 1000)
            if self._again(rest):
                self._heads.keep(rest, self._kept(rest), 4 * len(rest) + 1000)
        return read

    def _again(self, key: bytes) -> bool:
        return second_sight(self._once, key, self.rules.secret)

    def _kept(self, rest: bytes) -> RequestHead:
        kept = self._parse(rest)
        kept.raw = b""
        return kept

    def _behind_known_fields(self, line: bytes, fields: bytes) -> RequestHead | None:
        """A request line that may be new, before fields that are known as a whole."""
        known = self._fields.young.get(fields)
        if known is None or len(line) > self._max_line:
            return None
        match = COMMON_LINE.fullmatch(line)
        if match is None or match[1] == b"CONNECT" or match[3] != b"1":
            return None
        return known.with_line(match[1], match[2])

    def _in_order(self, value: bytes | None) -> bool:
        """Whether an Authorization field's value is one, as far as the message goes."""
        return (
            value is None
            or value in self.vouched
            or not (value.translate(None, VISIBLE) or value[:1] in BLANK or value[-1:] in BLANK)
        )

    def _saw(self, name: bytes, lower: bytes) -> bool:
        patterns = self._cuts.patterns
        new_each_time = self._cuts.saw(name, lower)
        if self._cuts.patterns is not patterns:
            # What was kept so far was not looked at with this name in mind.
            self._heads.clear()
            self._fields.clear()
        return new_each_time

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
        special: list[Line] | None = None
        young = self._lines.memo.young
        for line in lines:
            known = young.get(line) or self._lines.learn(line, 400)
            kind = known[0]
            if kind == PLAIN:
                forward.append(known[3])
            elif kind == HOST:
                if host:
                    raise HeadFault(400, "Host repeated")
                host = known[2]
            elif kind == AUTHORIZATION:
                authorization += (known[2],)
            elif kind > WITHHELD:
                if special is None:
                    special = []
                special.append(known)
            elif kind != DROPPED:
                noted.append((known[1], known[2]))
                if kind == NOTED:
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

    def _special(self, parsed: RequestHead, special: list[Line], forward: list[bytes]) -> None:
        """The fields that say something about the message itself."""
        length: bytes | None = None
        coding: bytes | None = None
        connection: list[bytes] = []
        for kind, _name, value, _forward in special:
            if kind == CONTENT_LENGTH:
                if length is not None:
                    raise HeadFault(400, "Content-Length repeated")
                length = value
            elif kind == CODING:
                if coding is not None:
                    raise HeadFault(400, "Transfer-Encoding repeated")
                coding = value
            elif kind in (CONNECTION, KEEP_ALIVE):
                connection += tokens(value, 400)
            elif kind == EXPECT:
                if value.lower() != b"100-continue":
                    raise HeadFault(400, "Expect")
                parsed.expect_continue = parsed.http11
        parsed.length = _request_length(length, coding, parsed.http11)
        if connection:
            parsed.keep_alive = b"close" not in connection and (
                parsed.http11 or b"keep-alive" in connection
            )
            take_named(forward, connection)

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
