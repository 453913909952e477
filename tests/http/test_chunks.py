"""Tests for gateway.http.chunks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.chunks import Chunked, encode_chunk
from gateway.http.faults import HeadFault


def feed(raw: bytes, cuts: list[int]) -> tuple[bytes, Chunked]:
    """Decode, the bytes cut into packets at those places."""
    decoder, out, at = Chunked(), b"", 0
    for cut in [*sorted(c % (len(raw) + 1) for c in cuts), len(raw)]:
        if decoder.finished:
            decoder.rest += raw[at:cut]
        elif cut > at:
            out += decoder.feed(raw[at:cut])
        at = cut
    return out, decoder


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.lists(st.integers(0, 5000), max_size=8), st.binary(max_size=20))
def test_any_packets_give_the_same_body(pieces: list[bytes], cuts: list[int], rest: bytes) -> None:
    """However a chunked body is cut into packets, the same payload comes out, and what follows is left."""
    raw = b"".join(encode_chunk(piece) for piece in pieces) + b"0\r\nX-T: 1\r\n\r\n" + rest
    out, decoder = feed(raw, cuts)
    assert (out, decoder.finished, decoder.rest, decoder.trailers) == (b"".join(pieces), True, rest, [b"X-T: 1"])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_a_fault_or_unfinished(raw: bytes) -> None:
    """Whatever the bytes are, the decoder raises its own fault only."""
    try:
        feed(raw, [])
    except HeadFault as fault:
        assert fault.status == 400


@pytest.mark.parametrize("raw", [b"1234567890abcdef1\r\n", b"ffffffffffffffff\r\n", b"5\n", b"5;a\r\n", b"g\r\n", b"\r\n", b"0\r\nA b\r\n"])
def test_bad_framing(raw: bytes) -> None:
    """A size or a trailer that is not beyond doubt is 400."""
    with pytest.raises(HeadFault):
        feed(raw + b"hello\r\n0\r\n\r\n", [])


def test_trailers_are_bounded() -> None:
    """Trailers that never end are 400."""
    decoder = Chunked(max_trailers=100)
    decoder.feed(b"0\r\n")
    with pytest.raises(HeadFault):
        for _ in range(100):
            decoder.feed(b"A: b\r\n")


def test_no_empty_chunk() -> None:
    """Empty data is no chunk: it would end the body."""
    assert encode_chunk(b"") == b""
