"""Tests for gateway.routing.table."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.table import RouteTable

TABLE = RouteTable({"/api/v1/users": "users", "/api/v1": "api", "/a": "a"})


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/api/v1/users", ("users", b"/")),
        (b"/api/v1/users/", ("users", b"/")),
        (b"/api/v1/users/7/x", ("users", b"/7/x")),
        (b"/api/v1/orders", ("api", b"/orders")),
        (b"/a/b/c/d/e/f", ("a", b"/b/c/d/e/f")),
        (b"/api", None), (b"/", None), (b"/b", None), (b"*", None), (b"", None),
    ],
)  # fmt: skip
def test_longest_prefix(path: bytes, found: tuple[str, bytes] | None) -> None:
    """The longest prefix of whole segments wins; its empty rest is a slash."""
    assert TABLE.find(path) == found


@pytest.mark.parametrize("rest", [b".attacker.example/", b"x", b"../", b"%2e%2e/", b";x", b"..", b"\\x", b"%2Fx"])
def test_row_7_whole_segments_only(rest: bytes) -> None:
    """
    Row 7 (CVE-2026-48020): a prefix never matches part of a segment. The original's
    startsWith sent users.attacker.example to somebody else's host.
    """
    table = RouteTable({"/api/v1/users": 1})
    assert table.find(b"/api/v1/users" + rest) is None


prefixes = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4), min_size=1, max_size=6)
paths = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=7)


@settings(max_examples=500, deadline=None)
@given(prefixes, paths)
def test_against_the_obvious_way(names: list[list[str]], path: list[str]) -> None:
    """The table finds what looking at every prefix would find."""
    table = {"/" + "/".join(each): "/" + "/".join(each) for each in names}
    text = "/" + "/".join(path)
    matching = [p for p in table if p == "/" or text == p or text.startswith(p + "/")]
    best = max(matching, key=len, default=None)
    found = RouteTable(table).find(text.encode())
    if best is None:
        assert found is None
    else:
        assert found == (best, (text if best == "/" else text[len(best) :] or "/").encode())


def test_a_path_of_slashes_costs_no_more() -> None:
    """A path of thousands of segments is looked up as often as the deepest prefix has segments."""
    looked = 0

    class Counting(dict[bytes, int]):
        def get(self, key: bytes, default: object = None) -> object:  # type: ignore[override]
            nonlocal looked
            looked += 1
            return super().get(key, default)  # type: ignore[arg-type]

    table = RouteTable({"/a/b/c": 1})
    object.__setattr__(table, "_prefixes", Counting(table._prefixes))
    assert table.find(b"/x" * 4000) is None
    assert looked <= 3
