# -*- test-case-name: tests.stores.test_url -*-
"""
Where the shared store is: lets URLs in of a server, a socket or sentinels; refuses every
other with a sentence that never repeats the text, which may hold a password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

#: For the manual and for messages.
EXPECTED = (
    "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// likewise with TLS, "
    "unix://[[USER]:PASSWORD@]/PATH[?db=N], or "
    "redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]"
)

PORT, SENTINEL_PORT = 6379, 26379
_MOST_SENTINELS = 16

#: Bytes of a socket's path: the kernel's bound, less the final zero.
MOST_PATH = 107


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """
    @ivar hosts: (host, port): the server, or the sentinels; none for a socket.
    @ivar path: of the socket.
    @ivar tls: whether the server must show a certificate for its host's name.
    @ivar service: what the sentinels call the server; empty without them.
    @ivar embedded: whether the gateway runs the server itself.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    tls: bool = False
    service: str = ""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    embedded: bool = False

    def __str__(self) -> str:
        """For messages: no user, no password."""
        if self.embedded:
            return "the embedded store"
        if self.path:
            return f"unix://{self.path}"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        if self.service:
            return f"redis+sentinel://{hosts}/{self.service}"
        return f"{'rediss' if self.tls else 'redis'}://{hosts}/{self.database}"

    @property
    def plain_password(self) -> bool:
        """Whether a password goes over a network that anybody may read."""
        far = any(host not in ("127.0.0.1", "::1", "localhost") for host, _ in self.hosts)
        return bool(self.password) and far and not self.tls


def parse_url(text: str) -> StoreAddress:
    """
    The address.

    @raise ValueError: with what was expected; never with the text.
    """
    read = _SCHEMES.get(text.partition("://")[0])
    if read is None or not text.isprintable() or " " in text:
        raise ValueError(EXPECTED)
    try:
        url = urlsplit(text)
        if url.fragment:
            raise ValueError
        return read(url)
    except _Said:
        raise
    except ValueError:
        # urllib's own sentences repeat parts of the text.
        raise ValueError(EXPECTED) from None


class _Said(ValueError):
    """The sentence is ours."""


def _user(url: SplitResult) -> tuple[dict[str, Any], str]:
    """User and password, and the hosts."""
    user, at, hosts = url.netloc.rpartition("@")
    if not at:
        return {}, hosts
    name, colon, password = user.partition(":")
    if not colon or not password:
        raise _Said("a URL with USER:PASSWORD@ or :PASSWORD@ before the host; " + EXPECTED)
    return {"username": unquote(name), "password": unquote(password)}, hosts


def _database(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise _Said("a database's number in the URL; " + EXPECTED)
    return int(text)


def _host(text: str, port: int) -> tuple[str, int]:
    found = urlsplit("//" + text)
    host = found.hostname
    if not host or not host.isascii() or any(c in host for c in "/?#@%"):
        raise ValueError
    number = found.port if found.port is not None else port
    if number == 0:
        raise ValueError
    return host, number


def _server(url: SplitResult) -> StoreAddress:
    user, host = _user(url)
    if url.query:
        raise ValueError
    database = _database(url.path.removeprefix("/"))
    hosts = (_host(host, PORT),)
    return StoreAddress(hosts=hosts, tls=url.scheme == "rediss", database=database, **user)


def _socket(url: SplitResult) -> StoreAddress:
    user, host = _user(url)
    query = dict(parse_qsl(url.query, strict_parsing=True)) if url.query else {}
    path = unquote(url.path)
    if host or len(path) < 2 or set(query) - {"db"}:
        raise ValueError
    if len(path.encode()) > MOST_PATH:
        raise _Said(f"a socket's path of at most {MOST_PATH} bytes")
    return StoreAddress(path=path, database=_database(query.get("db", "")), **user)


def _sentinels(url: SplitResult) -> StoreAddress:
    user, hosts = _user(url)
    service, _, database = url.path.removeprefix("/").partition("/")
    if url.query or not service or not hosts:
        raise ValueError
    found = tuple(_host(each, SENTINEL_PORT) for each in hosts.split(","))
    if len(found) > _MOST_SENTINELS:
        raise _Said(f"at most {_MOST_SENTINELS} sentinels")
    return StoreAddress(
        hosts=found,
        service=unquote(service),
        database=_database(database),
        **user,
    )


_SCHEMES: dict[str, Callable[[SplitResult], StoreAddress]] = {
    "redis": _server,
    "rediss": _server,
    "unix": _socket,
    "redis+sentinel": _sentinels,
}
