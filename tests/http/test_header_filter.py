"""Properties of the header filter: what of a client's fields, however spelt, reaches an upstream."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.exchange import FORWARDING, OURS, TRAILERS, request_rules
from gateway.http.fields import trailer_block
from gateway.http.heads import RequestHeads

RULES = request_rules("X-Forwarded-For")
HOP_BY_HOP = {
    b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"upgrade", b"http2-settings",
}  # fmt: skip
#: What means something to the message, only to be sent in its own spelling.
MEANT = {b"content-length", b"transfer-encoding", b"connection", b"host", b"authorization", b"expect"}
ORDINARY = [b"accept", b"cookie", b"x-thing", b"user-agent", b"origin", b"via", b"x-user", b"x-user-id-2", b"content-type"]

Fields = list[tuple[bytes, bytes]]


@st.composite
def spelt(draw: st.DrawFn) -> bytes:
    """A name in any case, with any of C{- _ .} for a dash."""
    name = draw(st.sampled_from(sorted(OURS | FORWARDING | HOP_BY_HOP) + ORDINARY * 4)).decode()
    parts = [draw(st.sampled_from("-_.")) if letter == "-" and draw(st.booleans()) else letter for letter in name]
    return "".join(draw(st.sampled_from((part.lower(), part.upper()))) for part in parts).encode()


values = st.from_regex(rb"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)
fields = st.lists(st.tuples(spelt(), values), max_size=12)
connection = st.lists(st.one_of(spelt(), st.just(b"close"), st.sampled_from([b"authorization", b"host", b"x-request-id"])), max_size=4)


def folded(name: bytes) -> bytes:
    """As a careless service reads it."""
    return name.lower().replace(b"_", b"-").replace(b".", b"-")


def expected(sent: Fields, named: list[bytes]) -> list[bytes]:
    """The obvious way: every field is looked at alone."""
    gone = {name.lower() for name in named} - {b"close", b"keep-alive"}
    return [
        name + b": " + value
        for name, value in sent
        if folded(name) not in OURS | FORWARDING | HOP_BY_HOP | MEANT and name.lower() not in gone
    ]


def named_by(line: bytes) -> bytes:
    """A field's name; fields of different names may change places (RFC 9110 section 5.3)."""
    return line.partition(b":")[0].lower()


@given(fields, connection)
@example([(b"Transfer_Encoding", b"chunked"), (b"Content.Length", b"5")], [])
@example([(b"X_User.ID", b"root"), (b"Accept", b"a")], [b"accept", b"X-User-ID"])
def test_what_reaches_the_upstream(sent: Fields, named: list[bytes]) -> None:
    """
    Rows 4 and 5: of any fields in any spelling exactly those go on, those of one name in order
    and all as sent, that are nobody's identity, name no client's way, and mean more than this
    connection.
    """
    lines = [b"GET / HTTP/1.1", b"Host: h", *(name + b": " + value for name, value in sent)]
    if named:
        lines.insert(2, b"Connection: " + b", ".join(named))
    heads = RequestHeads(RULES)
    for _ in range(3):  # the memos of lines and of heads change nothing
        head, _authorization, more = heads.read(b"\r\n".join(lines))
        got = (head.block + more).split(b"\r\n")[:-1]
        assert sorted(got, key=named_by) == sorted(expected(sent, named), key=named_by)


@given(fields)
def test_what_of_trailers_goes_on(sent: Fields) -> None:
    """Row 4: no spelling of an identity field, and nothing of a client's way, hides in trailers."""
    kept = trailer_block(TRAILERS, [name + b":" + value for name, value in sent]).split(b"\r\n")[:-1]
    names = [line.partition(b":")[0] for line in kept]
    assert not {folded(name) for name in names} & (OURS | FORWARDING)
    assert not {name.lower() for name in names} & HOP_BY_HOP
    everyday = [name for name, _ in sent if name.lower() in (b"x-thing", b"x-user", b"accept")]
    assert [name for name in names if name.lower() in (b"x-thing", b"x-user", b"accept")] == everyday
