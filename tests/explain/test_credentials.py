"""What gateway explain says of credentials that are no bearer token alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.explain.told import as_text
from gateway.settings import parse
from tests.explain.generated import CERTIFICATE, KEYS, NOW, SECRET, SENDER, files
from tests.explain.test_agreement import explained
from tests.test_express import Gateway

INI = f"""
[gateway]
listen = tcp:1
trusted_proxies = 10.0.0.0/8
[jwt]
secret = {SECRET}
[ratelimit]
limit = 100
[apikeys]
file = {{folder}}/keys
[dpop]
mode = accept
[mtls]
mode = accept
ca_file = {{folder}}/ca.pem
user = subject.CN
header = X-Client-Cert
[route /a]
upstream = http://127.0.0.1:9
[route /keys]
upstream = http://127.0.0.1:9
auth = apikey
[route /both]
upstream = http://127.0.0.1:9
mtls.mode = require
[route /proof]
upstream = http://127.0.0.1:9
dpop.mode = require
"""
TOKEN = SENDER.token(SECRET, exp=4e9)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateway]:
    """One that takes all of them."""
    files(tmp_path)
    made = Gateway(True, monkeypatch, [NOW], parse(INI.format(folder=tmp_path), {}))
    yield made
    made.close()


SHOWN = "X-Client-Cert: " + quote(CERTIFICATE.pem, safe="")


@pytest.mark.parametrize(
    ("path", "fields", "says", "setting"),
    [
        ("/a", [f"X-API-Key: {KEYS['plain'].decode()}"], "it is on file as plain; user bot, role staff", "apikeys.file = "),
        ("/a", [f"X-API-Key: {KEYS['unknown'].decode()}"], "it is not on file", "apikeys.file = "),
        ("/a", [f"X-API-Key: {KEYS['expired'].decode()}"], "it has expired", "apikeys.file = "),
        ("/a", [f"X-API-Key: {KEYS['plain'].decode()}", "Authorization: Bearer x"], "only one may come", ""),
        ("/proof", [f"X-API-Key: {KEYS['plain'].decode()}"], "the route takes no API keys", "dpop.mode = require"),
        ("/keys", [f"Authorization: Bearer {TOKEN}"], "the route takes no such token, or not alone", "auth = apikey"),
        ("/a", [SHOWN], "it says who calls: user cat, role user", "mtls.user = subject.CN"),
        ("/a", ["X-Client-Cert: x"], "what the proxy tells of it can't be read", "mtls.mode = accept"),
        ("/both", [f"Authorization: Bearer {TOKEN}"], "an authority of ca_file", "mtls.mode = require"),
        ("/a", [f"Authorization: Bearer {TOKEN}"], "a key or certificate that was not shown", "dpop.mode = accept"),
        ("/a", [f"Authorization: DPoP {TOKEN}", "DPoP: x"], "its proof is missing, not of its key", "dpop.mode = accept"),
    ],
)  # fmt: skip
def test_words(gateway: Gateway, path: str, fields: list[str], says: str, setting: str) -> None:
    """What came, why it was taken or not, and the setting with its line; never the credential itself."""
    raw = "\r\n".join([f"GET {path} HTTP/1.1", "Host: h", *fields]) + "\r\n\r\n"
    text = as_text(explained(gateway, "10.1.1.1", raw.encode()), [])
    stage = text.partition("Authenticated")[2].partition("RateLimited")[0]
    assert says in stage, text
    assert setting in stage, text
    assert all(secret not in text for secret in (KEYS["plain"].decode(), KEYS["unknown"].decode(), TOKEN))
