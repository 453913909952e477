"""gateway revoke and those who come without a token: API keys, and certificates that say who calls."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.admission.apikeys import Key, digest_of, new_key
from tests.admission.proofs import Authority, Issued, name_of
from tests.system.scripts import Endless
from tests.system.test_revoke import revoke
from tests.system.tools import WAIT, Daemon, Upstream, gateway, request, token

REST = "[apikeys]\nfile = keys.txt\n"
RAWS = {name: new_key() for name in ("old", "new", "ageless", "bob's")}
THEN = time.time() - 3600


def keys(folder: Path, **created: float | None) -> None:
    """Ann's keys, made then; and one of Bob's."""
    lines = [Key(name, digest_of(RAWS[name].encode()), "ann", created=at).line for name, at in created.items()]
    lines.append(Key("bobs", digest_of(RAWS["bob's"].encode()), "bob", created=THEN).line)
    path = folder / "keys.txt"
    path.touch(0o600)
    path.write_text("\n".join(lines) + "\n")


def status(daemon: Daemon, name: str) -> int:
    """What the key of that name is answered."""
    return daemon.get("/api/v1/users/7", f"X-API-Key: {RAWS[name]}", tok=None).status


def until(daemon: Daemon, name: str, expected: int) -> None:
    """Ask until that is the answer."""
    deadline = time.monotonic() + WAIT
    while (found := status(daemon, name)) != expected:
        assert time.monotonic() < deadline, found


def test_a_stolen_key_of_a_user_who_has_left(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that has just been good gets 401 once its user is revoked, so does one whose age nobody knows; one that was made afterwards, and another user's, pass; a restart forgets nothing."""
    keys(tmp_path, old=THEN, ageless=None, new=time.time() + 60)
    with gateway(tmp_path, upstream, rest=REST) as daemon:
        assert {status(daemon, name) for name in RAWS} == {200}
        revoke(daemon, monkeypatch, "--user", "ann", "--reason", "left")
        until(daemon, "old", 401)
        assert [status(daemon, name) for name in ("old", "ageless", "new", "bob's")] == [401, 401, 200, 200]
        answer = daemon.get("/api/v1/users/7", f"X-API-Key: {RAWS['old']}", tok=None)
        assert (answer.error, answer["WWW-Authenticate"]) == ("Token validation failed", 'ApiKey realm="gateway"')
        assert daemon.rows(1, "reason = 'revoked'")[0]["detail"] == "key:old, user: left"
    with gateway(tmp_path, upstream, rest=REST) as daemon:
        assert [status(daemon, name) for name in ("old", "ageless", "new", "bob's")] == [401, 401, 200, 200]
        revoke(daemon, monkeypatch, "--user", "ann", "--undo")
        until(daemon, "old", 200)


def test_a_leaked_key_and_those_who_bear_its_name(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is revoked by name gets 401; a token whose claims or whose header have that name, and its user's other keys, pass; so does a key that takes its name later."""
    keys(tmp_path, old=THEN, ageless=THEN)
    with gateway(tmp_path, upstream, rest=REST) as daemon:
        claiming = token("old", key="old", jti="old", iat=int(THEN))
        assert daemon.get(tok=claiming).status == status(daemon, "old") == 200
        revoke(daemon, monkeypatch, "--key", "old")
        until(daemon, "old", 401)
        assert status(daemon, "ageless") == 200
        assert daemon.get(tok=claiming).status == 200
        assert daemon.get(tok=token("old", key="old", n=1)).status == 200
        assert daemon.rows(1, "reason = 'revoked'")[0]["detail"] == "key:old, key"
        text = (tmp_path / "keys.txt").read_text().replace(digest_of(RAWS["old"].encode()).hex(), digest_of(RAWS["new"].encode()).hex())
        first, _, rest = text.partition("\n")
        (tmp_path / "keys.txt").write_text(first.partition("created=")[0] + f"created=2100-01-01\n{rest}")
        until(daemon, "new", 200)


def test_a_revoked_key_in_every_worker(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several workers none lets a revoked user's key in any more."""
    keys(tmp_path, old=THEN)
    with gateway(tmp_path, upstream, gateway="workers = 2", rest=REST) as daemon:
        for number in (1, 2):
            daemon.logged(f"worker {number} serves")
        assert {status(daemon, "old") for _ in range(20)} == {200}
        revoke(daemon, monkeypatch, "--user", "ann")
        deadline = time.monotonic() + WAIT
        while {status(daemon, "old") for _ in range(20)} != {401}:
            assert time.monotonic() < deadline


def test_a_stream_held_open_with_a_revoked_key(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that still streams to a key is cut when the key is revoked; the upstream's connection ends."""
    endless = upstream.answer = Endless()
    keys(tmp_path, old=THEN)
    with gateway(tmp_path, upstream, gateway="shutdown_grace = 0s", rest=REST) as daemon, daemon.connect() as client:
        client.send(request("/api/v1/users/7", f"X-API-Key: {RAWS['old']}", tok=None))
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        revoke(daemon, monkeypatch, "--key", "old")
        while client.more():
            pass
        assert b"0\r\n\r\n" not in client.buffer
        assert endless.ended.get(timeout=WAIT) == ["ann"]


def test_a_certificate_of_a_user_who_has_left(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that was valid before the moment gets 401, one that is valid only since then passes, and so does another user's."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    rest = "[mtls]\nmode = accept\nca_file = ca.pem\nheader = X-Client-Cert\nuser = subject.CN\n"
    old = authority.issue(name_of(CN="ann"))
    fresh = authority.issue(name_of(CN="ann"), begins=-600)
    other = authority.issue(name_of(CN="bob"))
    with gateway(tmp_path, upstream, rest=rest, gateway="trusted_proxies = 127.0.0.1") as daemon:

        def shown(issued: Issued) -> int:
            return daemon.get("/api/v1/users/7", f"X-Client-Cert: {quote(issued.pem, safe='')}", tok=None).status

        assert {shown(each) for each in (old, fresh, other)} == {200}
        revoke(daemon, monkeypatch, "--user", "ann", "--before", str(time.time() - 1800))
        deadline = time.monotonic() + WAIT
        while shown(old) != 401:
            assert time.monotonic() < deadline
        assert (shown(fresh), shown(other)) == (200, 200)
        assert daemon.rows(1, "reason = 'revoked'")[0]["detail"].endswith(", user")
