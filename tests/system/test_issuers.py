"""Identity providers through the real daemon: rotations under load, strangers, outages, reloads."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tests.system.issuer import Child, issuer, private_key, public_jwk
from tests.system.tools import WAIT, Daemon, Upstream, free_port, gateway, request, token


@pytest.fixture
def provider() -> Iterator[Child]:
    """An identity provider in a process of its own."""
    with issuer() as child:
        yield child


def section(provider: Child, name: str = "corp", **options: str) -> str:
    """Its section."""
    given = {"issuer": provider.iss, "discovery": provider.iss + "/.well-known/openid-configuration", "refresh_unknown": "100ms", **options}
    return f"[issuer {name}]\n" + "".join(f"{option} = {value}\n" for option, value in given.items() if value)


@contextlib.contextmanager
def keyless(folder: Path, upstream: Upstream, rest: str, **env: str) -> Iterator[Daemon]:
    """A daemon whose [jwt] has no key, stopped at the end."""
    port = free_port()
    text = f"[gateway]\nlisten = tcp:{port}:interface=127.0.0.1\n[audit]\ndatabase = {folder}/a.sqlite3\n{rest}"
    text += f"[route /api/v1/users]\nupstream = http://127.0.0.1:{upstream.port}\n"
    daemon = Daemon(folder, text, port, env)
    try:
        yield daemon
    finally:
        status = daemon.stop()
    assert status == 0


def test_a_token_of_an_issuer(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """A token of the issuer passes beside one of the local key; nested roles reach the service, several comma-separated."""
    options = {"role_claim": "realm_access.roles", "audience": "api"}
    routes = f"[route /admin]\nupstream = http://127.0.0.1:{upstream.port}\nrequire.role = admin\n"
    with gateway(tmp_path, upstream, rest=section(provider, **options), routes=routes) as daemon:
        good = provider.token(aud="api", realm_access={"roles": ["admin", "staff"]})
        assert daemon.get(tok=good).status == 200
        assert upstream.calls[-1].values("X-User-ID") == ["alice"]
        assert upstream.calls[-1].values("X-User-Role") == ["admin,staff"]
        assert daemon.get("/admin/1", tok=good).status == 200
        assert daemon.get("/admin/1", tok=provider.token(aud="api", realm_access={"roles": ["staff"]})).status == 403
        assert daemon.get().status == 200
        assert daemon.get(tok=provider.token(aud="other")).error == "Token validation failed"
        assert daemon.get(tok=token(iss=provider.iss)).error == "Invalid token signature"
        expired = daemon.get(tok=provider.token(aud="api", exp=int(time.time()) - 1))
        assert (expired.status, expired.error) == (401, "Token expired")
    assert provider.control()["counts"]["/jwks"] == 1


def test_without_a_local_key(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """With an issuer [jwt] needs no key; then nobody else's tokens pass."""
    with keyless(tmp_path, upstream, section(provider)) as daemon:
        assert daemon.get(tok=provider.token()).status == 200
        assert daemon.get().error == "Token validation failed"


def test_several_issuers_on_one_route(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """Each token is verified with its own issuer's keys; a route may name whose tokens are good there."""
    routes = f"[route /strict]\nupstream = http://127.0.0.1:{upstream.port}\nissuers = other\njwt.audience = strict\n"
    with (
        issuer("RS256") as other,
        gateway(tmp_path, upstream, rest=section(provider) + section(other, "other"), routes=routes) as daemon,
    ):
        for each in (provider, other):
            assert daemon.get(tok=each.token()).status == 200
        assert daemon.get("/strict/1", tok=other.token(aud="strict")).status == 200
        assert daemon.get("/strict/1", tok=other.token()).error == "Token validation failed"
        assert daemon.get("/strict/1", tok=provider.token(aud="strict")).error == "Token validation failed"
        assert daemon.get("/strict/1", tok=token(aud="strict")).error == "Token validation failed"


def test_50_rotations_under_load(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """While the issuer changes its key 50 times, tokens of the old key and of the new one pass, each request of them."""
    wrong: list[object] = []
    current = [provider.token()]
    done = threading.Event()
    asked = [0]
    answered = threading.Condition()

    def load() -> None:
        with daemon.connect() as client:
            while not done.is_set():
                raw = current[0]
                client.send(request("/api/v1/users/7", tok=raw))
                answer = client.answer()
                with answered:
                    asked[0] += 1
                    if answer.status != 200:
                        wrong.append((answer.status, answer.body))
                    answered.notify()

    # The faster the gateway, the more is asked meanwhile.
    with gateway(tmp_path, upstream, rest=section(provider), ratelimit="limit = 1000000000") as daemon:
        assert daemon.get(tok=current[0]).status == 200
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(50):
                provider.control(rotate=True)
                time.sleep(0.11)  # what refresh_unknown asks for: the provider's pace, not a wait for us
                current[0] = provider.token()
                with answered:
                    assert answered.wait_for(lambda enough=asked[0] + 8: wrong or asked[0] >= enough, WAIT)
        finally:
            done.set()
            for thread in threads:
                thread.join(WAIT)
    assert wrong == []
    assert provider.control()["counts"]["/jwks"] == 51


def test_strangers_keys(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """A crowd of tokens with made-up key names makes one fetch, and all of them get 401."""
    strange = private_key("ES256")
    with gateway(tmp_path, upstream, rest=section(provider, refresh_unknown="1h")) as daemon:
        good = provider.token()
        assert daemon.get(tok=good).status == 200
        with daemon.connect() as client:
            for number in range(500):
                made = jwt.encode({"iss": provider.iss, "sub": "x", "exp": 9_999_999_999}, strange, "ES256", {"kid": f"x{number}"})
                client.send(request("/api/v1/users/7", tok=made))
            answers = [client.answer() for _ in range(500)]
        assert {(answer.status, answer.error) for answer in answers} == {(401, "Invalid token signature")}
        assert daemon.get(tok=good).status == 200
    assert provider.control()["counts"]["/jwks"] == 2


def test_an_issuer_that_hangs(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """While a fetch hangs, known keys work, and who names an unknown one gets 401 after his patience."""
    with gateway(tmp_path, upstream, rest=section(provider, patience="100ms")) as daemon:
        good = provider.token()
        assert daemon.get(tok=good).status == 200
        provider.control(rotate=True)
        fresh = provider.token()
        provider.control(mode="hang")
        assert daemon.get(tok=fresh).error == "Invalid token signature"
        assert daemon.get(tok=good).status == 200


def test_an_issuer_that_is_away_at_the_start(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """The gateway starts without the issuer; its tokens get 503 until it is there, others pass."""
    provider.control(mode="error")
    with gateway(tmp_path, upstream, rest=section(provider, refresh_min="1s")) as daemon:
        daemon.logged("can't be fetched: discovery: answered 500; there are none yet")
        answer = daemon.get(tok=provider.token())
        assert (answer.status, answer.error) == (503, "Service unavailable")
        assert int(answer["Retry-After"]) >= 1
        assert daemon.get().status == 200
        assert len(daemon.rows(1, "reason = 'keys'")) == 1
        provider.control(mode="ok")
        daemon.logged("keys k0 (ES256)")
        assert daemon.get(tok=provider.token()).status == 200


@pytest.mark.parametrize(("mode", "says"), [("stranger", "another issuer's"), ("inward", "jwks_uri"), ("huge", "at most"), ("redirect", "redirects are not followed")])
def test_an_issuer_that_lies(tmp_path: Path, upstream: Upstream, provider: Child, mode: str, says: str) -> None:
    """An issuer that calls itself otherwise, leads to link-local addresses or floods gives no keys, and the log says why."""
    provider.control(mode=mode)
    with gateway(tmp_path, upstream, rest=section(provider)) as daemon:
        daemon.logged(says)
        assert daemon.get(tok=provider.token()).status == 503


def test_reload(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """A reload loses no key and has all looked at again, so that one that was withdrawn goes; an issuer that is taken out is nobody at once."""
    with gateway(tmp_path, upstream, rest=section(provider)) as daemon:
        good = provider.token()
        assert daemon.get(tok=good).status == 200
        text = daemon.ini.read_text()
        assert "reloaded: 1 routes" in daemon.reload(text.replace("[ratelimit]", "[ratelimit]\nburst = 3"))
        assert daemon.get(tok=good).status == 200
        provider.control(rotate=True, keep=0)
        daemon.reload()
        daemon.logged("keys k1 (ES256); gone: k0 (ES256)")
        assert daemon.get(tok=good).error == "Invalid token signature"
        good = provider.token()
        assert daemon.get(tok=good).status == 200
        without = text.partition("[issuer")[0] + "[route /api/v1/users]" + text.partition("[route /api/v1/users]")[2]
        assert "reloaded: 1 routes" in daemon.reload(without)
        assert daemon.get(tok=good).error == "Invalid token signature"
        assert daemon.get().status == 200


def test_keys_in_a_file(tmp_path: Path, upstream: Upstream) -> None:
    """A key set may be a file beside the configuration."""
    key = private_key("EdDSA")
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public_jwk(key, "EdDSA", kid="f")]}))
    rest = "[issuer local]\nissuer = urn:local\njwks = keys.json\nalgorithms = EdDSA\n"
    with gateway(tmp_path, upstream, rest=rest) as daemon:
        good = jwt.encode({"iss": "urn:local", "sub": "bob", "exp": int(time.time()) + 60}, key, "EdDSA", {"kid": "f"})
        assert daemon.get(tok=good).status == 200


def test_introspection(tmp_path: Path, upstream: Upstream, provider: Child) -> None:
    """An opaque token is asked about once and passes; an unknown one gets 401; while the server is away 503, and who is known goes on."""
    rest = f"[introspection]\nurl = {provider.iss}/introspect\nclient_id = gateway\nclient_secret = ${{ASKS}}\nrefused_for = 1s\nfailures = 1000\n"
    provider.control(answers={"opaque": {"active": True, "sub": "bob", "role": ["a", "b"]}})
    with keyless(tmp_path, upstream, rest, ASKS="introspection-secret") as daemon:
        for _ in range(3):
            assert daemon.get(tok="opaque").status == 200
        assert upstream.calls[-1].values("X-User-ID") == ["bob"]
        assert upstream.calls[-1].values("X-User-Role") == ["a,b"]
        assert daemon.get(tok="unknown").error == "Token validation failed"
        assert provider.control()["counts"]["/introspect"] == 2
        provider.control(mode="error")
        answer = daemon.get(tok="another")
        assert (answer.status, answer.error) == (503, "Service unavailable")
        assert daemon.get(tok="opaque").status == 200
    assert "introspection-secret" not in daemon.log.read_text()
