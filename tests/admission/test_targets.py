"""Tests for gateway.admission.targets: one URL in all its spellings, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.targets import same_target

TARGET = (b"https", b"API.example", b"/v1/a%2db/~x")


@pytest.mark.parametrize(
    "htu",
    [
        "https://api.example/v1/a-b/~x", "HTTPS://API.EXAMPLE:443/v1/a%2Db/%7Ex", "https://api.example/v1/a-b/~x?q=1#f",
        "https://api.example/v1/./a-b/y/../~x", "https://api.example:/v1/a-b/~x",
    ],
)  # fmt: skip
def test_spellings_that_mean_the_same(htu: str) -> None:
    """Case of scheme and host, default port, escapes of plain letters, dots, query and fragment do not count."""
    assert same_target(htu, TARGET)


@pytest.mark.parametrize(
    "htu",
    [
        "https://api.example/v1/A-b/~x", "https://api.example/v1/a-b/~x/", "http://api.example/v1/a-b/~x", "//api.example/v1/a-b/~x",
        "https://api.example:8443/v1/a-b/~x", "https://u@api.example/v1/a-b/~x", "https://api.example.evil/v1/a-b/~x", "",
        "https://api.example\\@evil/v1/a-b/~x", "https://api.example/v1/a%2Fb/~x", "https:api.example/v1/a-b/~x", "https://api.example",
        "https://\u00e4pi.example/v1/a-b/~x", "https://api.example/v1/a-b/~x" + "?" * 5000, " https://api.example/v1/a-b/~x",
    ],
)  # fmt: skip
def test_other_targets(htu: str) -> None:
    """Another scheme, host, port or path is another target."""
    assert not same_target(htu, TARGET)


def test_ports_and_addresses() -> None:
    """IPv6 addresses keep their brackets; a port that is not the default one counts; an empty path is the root."""
    assert same_target("http://[2001:DB8::1]/", (b"http", b"[2001:db8::1]:80", b"/"))
    assert same_target("http://[::1]:8080", (b"http", b"[::1]:8080", b"/"))
    assert not same_target("http://[::1]:8080", (b"http", b"[::1]", b"/"))
    assert not same_target("https://a:80/", (b"https", b"a", b"/"))


@given(st.text(max_size=80))
def test_any_text(htu: str) -> None:
    """Whatever a proof calls its target, it is compared or refused."""
    assert same_target(htu, TARGET) in (False, True)
