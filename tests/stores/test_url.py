"""URLs of shared stores."""

from __future__ import annotations

import pytest

from gateway.stores.url import StoreAddress, parse_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://db.internal", StoreAddress((("db.internal", 6379),))),
        ("redis://:p%40ss@10.0.0.1:7000/3", StoreAddress((("10.0.0.1", 7000),), database=3, password="p@ss")),
        ("rediss://gw:pw@[2001:db8::1]", StoreAddress((("2001:db8::1", 6379),), tls=True, username="gw", password="pw")),
        ("unix:///run/valkey/socket?db=2", StoreAddress(path="/run/valkey/socket", database=2)),
        ("unix://:pw@/run/s", StoreAddress(path="/run/s", password="pw")),
        (
            "redis+sentinel://gw:pw@s1,s2:27000/main/4",
            StoreAddress((("s1", 26379), ("s2", 27000)), service="main", database=4, username="gw", password="pw"),
        ),
    ],
)  # fmt: skip
def test_addresses(text: str, expected: StoreAddress) -> None:
    """Server, TLS, socket and sentinels, with ACL user, password and database."""
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "redis", "http://h", "redis://", "redis:///1", "redis://h:0", "redis://h:99999", "redis://h/x",
        "redis://h?db=1", "redis://h#1", "redis://h\n", "redis://h h", "unix://run/s", "unix:///", "unix:///s?x=1",
        "redis+sentinel://h", "redis+sentinel:///main", "redis+sentinel://h,/main", "redis://hunter2@h",
        "redis://gw:@h", "redis://:hunter2@[::1", "redis://:hunter2@h:port", "redis://:hunter2@h/db",
        "unix:///" + "x" * 108,
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    """Any other URL is refused, and the message repeats nothing of it: it may hold a password."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parse_url(text)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("scheme", ["redis://{}@h", "rediss://{}@h", "unix://{}@/s", "redis+sentinel://{}@h/m"])
def test_passwords_are_never_shown(scheme: str) -> None:
    """Neither repr nor str of an address tells the password."""
    address = parse_url(scheme.format("someone:hunter2"))
    assert "hunter2" not in f"{address!r} {address}"
    assert "someone" not in str(address)


def test_a_password_in_the_clear() -> None:
    """A password sent over a network without TLS is known as such; on this machine it is not."""
    assert parse_url("redis://:p@db.internal").plain_password
    assert parse_url("redis+sentinel://:p@s1/m").plain_password
    for text in ("rediss://:p@db.internal", "redis://:p@127.0.0.1", "redis://db.internal", "unix://:p@/s"):
        assert not parse_url(text).plain_password
