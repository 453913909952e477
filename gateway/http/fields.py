# -*- test-case-name: tests.http.test_heads -*-
"""
Lets a field line through that can be read in one way only (RFC 9110 section 5); says what
it is to the message and to the application, and which bytes of it go on.

Lines are parsed when they are new; what was found out is kept in a bounded memo, but never
of lines with secrets in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.http.faults import HeadFault
from gateway.http.grammar import AUTHORITY, FIELD, LENGTH, ONE_CODING
from gateway.http.memo import Memo

# What a field line is. Kinds up to NOTED need no look at the head as a whole.
(
    PLAIN, DROPPED, NOTED, WITHHELD, HOST, CONTENT_LENGTH, CODING, CONNECTION, EXPECT,
    AUTHORIZATION, KEEP_ALIVE,
) = range(11)  # fmt: skip

KINDS = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"authorization": AUTHORIZATION,
    # RFC 9110 section 7.6.1, and the older ones that mean this connection only.
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"proxy-authenticate": DROPPED,
    b"proxy-authorization": DROPPED,
    b"te": DROPPED,
    b"trailer": DROPPED,
    b"upgrade": DROPPED,
    b"http2-settings": DROPPED,
}

#: Fields whose lines are never kept in a memo.
SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

#: Longer lines are parsed each time.
MAX_KEPT = 1024

CHUNKED = -1
UNTIL_CLOSE = -2

#: Bytes of a value that need no second look, and those it may not begin or end with.
VISIBLE = bytes(range(0x21, 0x7F)) + b" \t"
BLANK = (b"", b" ", b"\t")

_FOLD = bytes.maketrans(b"_.", b"--")


@dataclass(frozen=True, slots=True)
class FieldRules:
    """
    What is done with the fields an application cares for; lower-case names.

    @ivar drop: never forwarded, in any spelling: C{_} and C{.} count as C{-}.
    @ivar withhold: not forwarded but noted; other spellings are dropped.
    @ivar note: noted, and forwarded.
    @ivar secret: their lines are never kept in a memo, in any spelling.
    """

    drop: frozenset[bytes]
    withhold: frozenset[bytes]
    note: frozenset[bytes]
    secret: frozenset[bytes] = frozenset()

    def keeps(self, name: bytes) -> bool:
        """Whether lines of a field of that lower-case name may be kept."""
        return name not in SECRET and name.translate(_FOLD) not in self.secret

    def kind(self, name: bytes) -> int:
        """What a field of that lower-case name is to the application."""
        folded = name.translate(_FOLD)
        if folded in self.drop or (folded != name and folded in KINDS):
            # C{Transfer_Encoding} is framing to services that see C{_} where C{-} was.
            return DROPPED
        if name in self.withhold:
            return WITHHELD
        if folded in self.withhold:
            return DROPPED
        return NOTED if name in self.note else PLAIN


#: (kind, lower-case name, value, bytes to forward)
Line = tuple[int, bytes, bytes, bytes]


class Lines:
    """Field lines, by way of the memo."""

    def __init__(self, rules: FieldRules, memo_bytes: int, kinds: dict[bytes, int]) -> None:
        self._rules = rules
        self._kinds = kinds
        #: Told of each new line of an ordinary field; whether such are not worth keeping.
        self.saw: Callable[[bytes, bytes], bool] = lambda _name, _lower: False
        self.memo: Memo[Line] = Memo(memo_bytes)

    def learn(self, line: bytes, status: int) -> Line:
        """Parse a line that is not among the young ones."""
        if (
            line.startswith(b"Authorization: ")
            and not line.translate(None, VISIBLE)
            and line[15:16] not in BLANK
            and line[-1:] not in BLANK
            and b"authorization" in self._kinds
        ):
            # New with each user, so never in the memo; the grammar in one pass.
            return AUTHORIZATION, b"authorization", line[15:], b""
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
        elif kind == DROPPED and lower in self._rules.withhold:
            kind = WITHHELD
        if kind == HOST and AUTHORITY.fullmatch(value) is None:
            raise HeadFault(status, "Host")
        if kind in (CONTENT_LENGTH, CODING) and b"\t" in line:
            # Blanks around framing: llhttp refuses a tab, so this is not beyond doubt.
            raise HeadFault(status, "a tab beside framing")
        if kind == CONTENT_LENGTH and LENGTH.fullmatch(value) is None:
            raise HeadFault(status, "Content-Length")
        if kind == CONNECTION and value.lower() == b"keep-alive":
            kind = KEEP_ALIVE
        forward = b"%s: %s\r\n" % (name, value) if kind in (PLAIN, NOTED) else b""
        known = (kind, lower, value, forward)
        new_each_time = kind == PLAIN and self.saw(name, lower)
        if len(line) <= MAX_KEPT and not new_each_time and self._rules.keeps(lower):
            self.memo.keep(line, known, 3 * len(line))
        return known

def second_sight(once: set[int], key: bytes, secret: frozenset[bytes] = frozenset()) -> bool:
    """Whether a head has been seen before and has no secret in it; C{secret}: further names."""
    digest = hash(key)
    if digest not in once:
        if len(once) >= 4096:
            once.clear()
        once.add(digest)
        return False
    lower = key.lower()
    if any(b"\r\n" + name in lower for name in SECRET):
        return False
    return not secret or not any(b"\r\n" + name in lower.translate(_FOLD) for name in secret)


def tokens(value: bytes, status: int) -> list[bytes]:
    """A comma-separated list of tokens in lower case (RFC 9110 section 5.6.1)."""
    found = [part.strip(b" \t") for part in value.lower().split(b",")]
    for token in found:
        if token and ONE_CODING.fullmatch(token) is None:
            raise HeadFault(status, "Connection")
    return found


def take_named(forward: list[bytes], connection: list[bytes]) -> None:
    """Take the fields away that Connection names (RFC 9110 section 7.6.1)."""
    named = {name for name in connection if name not in (b"close", b"keep-alive", b"")}
    if named:
        forward[:] = [line for line in forward if line.partition(b":")[0].lower() not in named]

#: Fields that say how a message is framed, routed or authenticated: never in trailers
#: (RFC 9110 section 6.5.1).
_NOT_IN_TRAILERS = frozenset(KINDS) | frozenset(
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
        if lower not in _NOT_IN_TRAILERS and rules.kind(lower) in (PLAIN, NOTED):
            kept.append(b"%s: %s\r\n" % (name, value.strip(b" \t")))
    return b"".join(kept)
