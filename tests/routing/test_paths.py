"""Tests for gateway.routing.paths: one path, one meaning (security.md row 8)."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.paths import judge, split

GOOD = [
    b"/", b"/a", b"/a/", b"/a/b.c", b"/a/...", b"/a/..b", b"/a;x=1/b", b"/a%20b", b"/%25", b"/100%25/x", b"/a%2520b", b"/a%2525", b"/%C3%A9",
    b"/%E9", b"/a,b:c@d!$&'()*+=~_-", b"/%3F%23%5B", b"/a%3Bb",
]  # fmt: skip
BAD = [
    b"", b"a", b"//", b"/a//b", b"/a/./b", b"/a/../b", b"/..", b"/.", b"/a/..", b"/a/.", b"/a/..;/b", b"/a/.;x", b"/%2e", b"/a/%2E%2e/b",
    b"/.%2e/b", b"/a%2eb", b"/%61", b"/a%2Fb", b"/a%2fb", b"/a%5Cb", b"/a%00", b"/a%0d%0a", b"/a%7F", b"/a%1f", b"/a\\b", b"/a b", b"/a\x00",
    b"/a%", b"/a%2", b"/a%zz", b"/\xff", b"/a%252e", b"/a%252f", b"/a%255c", b"/a%2500", b"/a%25252e", b"/a%2525252e", b"/%C0%AE", b"/%c1%9c",
    b"/%E0%80%AF", b"/%25C0%25AE", b"/a#b", b"/a?b", b'/a"b', b"/a<b", b"/a{b", b"/a|b", b"/a^b", b"/a`b", b"/%7E", b"/%2D",
]  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
def test_one_meaning(path: bytes) -> None:
    """A path that means the same to everybody passes."""
    assert judge(path)


@pytest.mark.parametrize("path", BAD)
def test_two_meanings(path: bytes) -> None:
    """Row 8 (CVE-2021-29492, CVE-2025-66490, CVE-2021-43557, CVE-2026-26205): any other is refused."""
    assert not judge(path)


alphabet = st.sampled_from([b"/", b".", b"a", b"%2e", b"%2F", b"%25", b"2e", b"2f", b"5c", b"%5c", b";", b"%41", b"%20", b"~", b"%C3%A9", b"\\", b"%"])


def segments(path: bytes) -> list[bytes]:
    """What a normalising service makes of a path."""
    return posixpath.normpath(path.replace(b"\\", b"/").replace(b"//", b"/")).strip(b"/").split(b"/")


@settings(max_examples=1500, deadline=None)
@given(st.lists(alphabet, max_size=10))
def test_nobody_reads_it_otherwise(pieces: list[bytes]) -> None:
    """Whoever decodes a passed path once, or twice, and normalises, has as many segments, none a dot."""
    path = b"/" + b"".join(pieces)
    if not judge(path):
        return
    plain = [each for each in path.split(b"/") if each] or [b""]
    for decoded in (path, unquote_to_bytes(path), unquote_to_bytes(unquote_to_bytes(path))):
        stripped = b"/".join(each.split(b";")[0] or b"x" if each else each for each in decoded.split(b"/"))
        assert len(segments(stripped)) == len(plain)
        assert not {b".", b".."} & set(stripped.split(b"/"))


def test_split() -> None:
    """The query keeps its mark and every byte of it."""
    assert split(b"/a?b?c") == (b"/a", b"?b?c")
    assert split(b"/a?") == (b"/a", b"?")
    assert split(b"/a") == (b"/a", b"")
