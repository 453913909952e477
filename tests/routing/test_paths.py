"""Tests for gateway.routing.paths: one path, one meaning (security.md row 8)."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.paths import carelessly, judge, split

GOOD = [
    b"/", b"/a", b"/a/", b"/a/b.c", b"/a/...", b"/a/..b", b"/a;x=1/b", b"/a%20b", b"/%25", b"/100%25/x", b"/a%2520b", b"/a%2525", b"/%C3%A9",
    b"/%E9", b"/%F0%9F%99%82", b"/%E0%A4%A4", b"/.well-known/x", b"/a/..b;c", b"/%25x/%2525", b"/a,b:c@d!$&'()*+=~_-", b"/%3F%23%5B", b"/a%3Bb",
]  # fmt: skip
BAD = [
    b"", b"a", b"//", b"/a//b", b"/a/./b", b"/a/../b", b"/..", b"/.", b"/a/..", b"/a/.", b"/a/..;/b", b"/a/.;x", b"/a/..;", b"/%2e", b"/a/%2E%2e/b",
    b"/.%2e/b", b"/a%2eb", b"/%61", b"/a%2Fb", b"/a%2fb", b"/a%5Cb", b"/a%00", b"/a%0d%0a", b"/a%7F", b"/a%1f", b"/a\\b", b"/a b", b"/a\x00",
    b"/a%", b"/a%2", b"/a%zz", b"/\xff", b"/a%252e", b"/a%252f", b"/a%255c", b"/a%2500", b"/a%25252e", b"/a%2525252e", b"/%C0%AE", b"/%c1%9c",
    b"/a/..%3B/b", b"/a/.%3bx", b"/a/..%3Fx", b"/a/..%23", b"/a/..%253B/b", b"/a/..%25253fx", b"/%25%2532e/x", b"/%25%2532f", b"/%25255C",
    b"/%E0%80%AF", b"/%F0%80%80%AE", b"/%F8%80%80%80%AE", b"/%FC%80%80%80%80%AE", b"/%25252525252525x", b"/%25C0%25AE", b"/a#b", b"/a?b", b'/a"b', b"/a<b", b"/a{b", b"/a|b", b"/a^b", b"/a`b", b"/%7E", b"/%2D",
]  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
def test_one_meaning(path: bytes) -> None:
    """A path that means the same to everybody passes."""
    assert judge(path)


@pytest.mark.parametrize("path", BAD)
def test_two_meanings(path: bytes) -> None:
    """Row 8 (CVE-2021-29492, CVE-2025-66490, CVE-2021-43557, CVE-2026-26205): any other is refused."""
    assert not judge(path)


#: Whole and torn escapes, doubled ones, and what they could hide.
PIECES = [
    b"/", b".", b"..", b"a", b"%2e", b"%2F", b"%25", b"%2525", b"2e", b"2f", b"5c", b"32", b"%32", b"%5c", b";", b"%3B", b"3B", b"%3f", b"%23",
    b"%41", b"41", b"%20", b"~", b"%C3%A9", b"%C0", b"AE", b"00", b"\\", b"%", b"%25%2532e", b"%252e", b"x=1",
]  # fmt: skip


def readings(path: bytes) -> list[bytes]:
    """The path as it is after each decoding, until nothing changes."""
    found = [path]
    while unquote_to_bytes(found[-1]) != found[-1]:
        found.append(unquote_to_bytes(found[-1]))
    return found


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=10))
def test_nobody_reads_it_otherwise(pieces: list[bytes]) -> None:
    """
    Row 8: whoever decodes a passed path, however often, cuts off parameters, query or
    fragment, and normalises, finds the segments in the places where they were.
    """
    path = b"/" + b"".join(pieces)
    if not judge(path):
        return
    for read in readings(path):
        assert read.count(b"/") == path.count(b"/")
        assert b"\\" not in read
        assert not any(octet < 0x20 or octet == 0x7F for octet in read)
        cut = b"/".join(re.split(rb"[;?#]", segment)[0] or b"x" if segment else b"" for segment in read.split(b"/"))
        assert posixpath.normpath(cut) == (cut.rstrip(b"/") or b"/")


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, b"%2F", b"/../", b"//", b"%00"]), max_size=6), st.integers(0, 2))
def test_encoding_hides_nothing(pieces: list[bytes], times: int) -> None:
    """Row 8: what is refused is refused as well with each of its percent signs encoded again."""
    path = b"/" + b"".join(pieces)
    if any(attack in path.lower() for attack in (b"%2e", b"%2f", b"%5c", b"%00")):
        for _ in range(times):
            path = path.replace(b"%", b"%25")
        assert not judge(path)


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=12))
def test_any_bytes_are_judged(noise: bytes) -> None:
    """Whatever the bytes, the judge answers, and nothing outside RFC 3986's path characters passes."""
    if judge(b"/" + noise):
        assert not noise.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%")


@pytest.mark.parametrize("octet", range(256))
def test_every_encoded_octet(octet: int) -> None:
    """Row 8: an encoded octet passes only where encoding it is not a choice, in either case of its digits."""
    unreserved = bytes([octet]).isalnum() or octet in b"-._~"
    overlong = octet in {0xC0, 0xC1}
    expected = not (unreserved or overlong or octet in b"/\\" or octet < 0x20 or octet == 0x7F)
    assert judge(b"/a%%%02X" % octet) is expected
    assert judge(b"/a%%%02x/b" % octet) is expected


def test_hostile_lengths_take_linear_time() -> None:
    """A path eight times as long is judged in the same number of decodings."""
    counted = [len(readings(b"/" + b"%2525" * many)) for many in (100, 800)]
    assert counted == [3, 3]
    assert judge(b"/" + b"%2525" * 800)
    assert not judge(b"/%" + b"25" * 400)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        (b"/a/b", b"/a/b"), (b"/a%3Ab", b"/a:b"), (b"/a%253Ab;v=1/c;w", b"/a:b/c"), (b"/%2561pi", b"/api"), (b"/a%3Bx/b", b"/a/b"),
        (b"/a%3Fx", b"/a"), (b"/a%23x", b"/a"), (b"/100%25", b"/100%"),
    ],
)  # fmt: skip
def test_careless_reading(path: bytes, read: bytes) -> None:
    """A careless service decodes to the end and takes parameters off."""
    assert judge(path)
    assert carelessly(path) == read


def test_split() -> None:
    """The query keeps its mark and every byte of it."""
    assert split(b"/a?b?c") == (b"/a", b"?b?c")
    assert split(b"/a?") == (b"/a", b"?")
    assert split(b"/a") == (b"/a", b"")
