"""How what was found out is told."""

from __future__ import annotations

import pytest

from gateway.explain.command import look
from gateway.explain.run import Asked
from gateway.explain.told import as_text, masked
from gateway.settings import parse

INI = "[gateway]\nlisten = tcp:1\n[jwt]\nsecret = ssssssssssssssssssssssssssssssssssssssss\n[route /a]\nupstream = http://127.0.0.1:9\n"


@pytest.mark.parametrize("name", [
    "Cookie", "Authorization", "X-API-Key", "x-api-key", "X-Gateway-Assertion", "DPoP", "X-Auth-Token", "Proxy-Authorization",
    "X-Client-Secret", "Apikey",
])  # fmt: skip
def test_values_that_are_hidden(name: str) -> None:
    """Whatever looks like a credential is not shown; its name is."""
    head = f"GET / HTTP/1.1\r\nHost: h\r\n{name}: open sesame\r\nAccept: */*\r\n\r\n".encode()
    assert masked(head) == f"GET / HTTP/1.1\nHost: h\n{name}: (hidden)\nAccept: */*"


@pytest.mark.parametrize("line", ["Host: monkey", "X-User-ID: token", "Accept: key", "GET /token: HTTP/1.1"])
def test_values_that_are_shown(line: str) -> None:
    """Other fields are shown, whatever their values are called."""
    assert masked(line.encode()) == line


def test_a_body_is_shown_as_it_is() -> None:
    """An answer's body is the gateway's own and has no secrets."""
    seen, notes = look(parse(INI, {}), Asked(b"GET /.well-known/gateway/jwks.json HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert '  | {"keys": []}\n' in as_text(seen, notes)
