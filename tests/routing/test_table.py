"""Tests for gateway.routing.table."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.paths import carelessly, judge
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


def test_where_a_path_leads() -> None:
    """A path leads to its own route only, and to none where there is none."""
    assert TABLE.leads(b"/api/v1/users/7", "users")
    assert not TABLE.leads(b"/api/v1/users/7", "api")
    assert not TABLE.leads(b"/b", "a")


segments = st.lists(st.sampled_from(["a", "b", "a%3Ab", "a:b", "%2561", "a;v=1", "b%3Bx", "c%253Ab"]), min_size=1, max_size=5)
strict = st.lists(st.lists(st.sampled_from(["a", "b", "a:b", "c:b"]), max_size=3), min_size=1, max_size=5)


@settings(max_examples=800, deadline=None)
@given(strict, segments)
def test_no_reading_leads_elsewhere(names: list[list[str]], path: list[str]) -> None:
    """Row 8: where the careless reading leads where the path does, so does every reading between the two."""
    table = RouteTable({"/" + "/".join(each): "/" + "/".join(each) for each in names})
    text = ("/" + "/".join(path)).encode()
    found = table.find(text)
    if found is None or not table.leads(carelessly(text), found[0]):
        return
    once = unquote_to_bytes(text)
    for read in (text, once, unquote_to_bytes(once)):
        assert table.leads(read, found[0])
        assert table.leads(re.sub(rb";[^/]*", b"", read), found[0])


bases = st.lists(st.sampled_from(["base", "v1", "a.b"]), max_size=3)


@settings(max_examples=500, deadline=None)
@given(prefixes, bases, st.lists(st.sampled_from([b"/", b"a", b"..", b".", b"b", b"c", b"%2e", b";x", b"%25", b"2e"]), max_size=8))
def test_row_7_inside_the_base(names: list[list[str]], base: list[str], pieces: list[bytes]) -> None:
    """Row 7 (CVE-2026-48020): the rest behind a prefix, put behind an upstream's own path, stays inside of it."""
    path = b"/" + b"".join(pieces)
    found = RouteTable({"/" + "/".join(each): 1 for each in names}).find(path)
    if found is None or not judge(path):
        return
    before = "".join(f"/{each}" for each in base).encode()
    target = before + found[1]
    assert judge(target)
    assert posixpath.normpath(unquote_to_bytes(target) + b"/x").startswith(before + b"/")
    assert path.endswith(found[1]) or found[1] == b"/"


class Counting(dict[bytes, int]):
    """Counts its look-ups."""

    looked = 0

    def get(self, key: bytes, default: object = None) -> object:  # type: ignore[override]
        self.looked += 1
        return super().get(key, default)  # type: ignore[arg-type]


def counted(table: RouteTable[int]) -> Counting:
    """Have a table's look-ups counted."""
    counting = Counting(table._prefixes)
    object.__setattr__(table, "_prefixes", counting)
    return counting


@pytest.mark.parametrize("routes", [1, 1000])
def test_the_number_of_routes_costs_nothing(routes: int) -> None:
    """A path is looked up as often among a thousand routes as with one."""
    table = RouteTable({f"/api/v1/service{number}": number for number in range(routes)})
    counting = counted(table)
    assert table.find(b"/api/v1/service0/x/y") == (0, b"/x/y")
    assert counting.looked == 1


def test_a_path_of_slashes_costs_no_more() -> None:
    """A path of thousands of segments is looked up as often as the deepest prefix has segments."""
    table = RouteTable({"/a/b/c": 1})
    counting = counted(table)
    assert table.find(b"/x" * 4000) is None
    assert 0 < counting.looked <= 3
