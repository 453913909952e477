"""DPoP with the real daemon: tokens that only their owners can use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.admission.proofs import Sender
from tests.stores.valkey import Valkey
from tests.system.tools import SECRET, Answer, Daemon, Upstream, gateway, request, token

HTU = "http://gateway.test/api/v1/users/7"
ROUTES = """
[route /only]
upstream = http://127.0.0.1:{upstream}
dpop.mode = require
[route /never]
upstream = http://127.0.0.1:{upstream}
dpop.mode = off
"""
identifiers = count()


@pytest.fixture
def daemon(tmp_path: Path, upstream: Upstream) -> Iterator[Daemon]:
    """A gateway that takes proofs."""
    with gateway(tmp_path, upstream, rest="[dpop]\nmode = accept", gateway="trusted_proxies = unix",
                 listen=f"unix:{tmp_path}/s", routes=ROUTES.format(upstream=upstream.port)) as found:  # fmt: skip
        yield found


@pytest.fixture
def sender() -> Sender:
    """A client with a key."""
    return Sender()


def jti() -> str:
    """One that has not been used."""
    return f"jti-{next(identifiers)}"


def ask(daemon: Daemon, *fields: str, path: str = "/api/v1/users/7", method: str = "GET") -> Answer:
    """A request with these fields alone."""
    return daemon.get(path, *fields, tok=None, method=method)


def fields(sender: Sender, tok: str, method: str = "GET", htu: str = HTU, **more: object) -> list[str]:
    """Token and proof."""
    proof = sender.prove(method, htu, tok, more.pop("jti", None) or jti(), **more)  # type: ignore[arg-type]
    return [f"Authorization: DPoP {tok}", f"DPoP: {proof}"]


def test_a_bound_token(daemon: Daemon, upstream: Upstream, sender: Sender) -> None:
    """With its proof it passes, first and again; neither token nor proof reaches the upstream."""
    tok = sender.token(SECRET)
    for _ in range(3):
        found = fields(sender, tok)
        assert ask(daemon, *found).status == 200
        assert upstream.calls[-1].values("X-User-ID") == ["alice"]
        for field in found:
            assert field.split(" ")[-1].encode() not in upstream.log
    assert ask(daemon, *fields(sender, tok, "POST"), method="POST").status == 200
    assert ask(daemon, *fields(sender, tok), path="/api/v1/users/7?q=1").status == 200


def test_not_as_bearer(daemon: Daemon, upstream: Upstream, sender: Sender) -> None:
    """A thief who sends a bound token as Bearer is refused, also after its owner has used it, and with a proof beside."""
    tok = sender.token(SECRET)
    found = fields(sender, tok)
    before = ask(daemon, f"Authorization: Bearer {tok}")
    assert ask(daemon, *found).status == 200
    after = ask(daemon, f"Authorization: Bearer {tok}")
    beside = ask(daemon, f"Authorization: Bearer {tok}", fields(sender, tok)[1])
    for answer in (before, after, beside):
        assert (answer.status, answer.error) == (401, "Token validation failed")
        assert 'error="invalid_token"' in answer["WWW-Authenticate"]
    assert len(upstream.calls) == 1
    assert {row["reason"] for row in daemon.rows(4, "status = 401")} == {"proof"}


def test_replays(daemon: Daemon, upstream: Upstream, sender: Sender) -> None:
    """The same proof passes once, however many send it at the same time."""
    found = fields(sender, sender.token(SECRET))
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(ask(daemon, *found).status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [401] * 7
    assert len(upstream.calls) == 1


def test_wrong_proofs(daemon: Daemon, upstream: Upstream, sender: Sender) -> None:
    """A proof for another method, URL, token, time or key, two proofs, or none: 401, and the challenge says so."""
    tok, other = sender.token(SECRET), sender.token(SECRET, sub="bob")
    good = fields(sender, tok)
    wrong = {
        "method": fields(sender, tok, "POST"), "path": fields(sender, tok, htu=HTU + "/8"), "host": fields(sender, tok, htu=HTU.replace("test", "evil")),
        "scheme": fields(sender, tok, htu=HTU.replace("http:", "https:")), "old": fields(sender, tok, iat=1_600_000_000), "future": fields(sender, tok, iat=4e9),
        "token": [good[0], fields(sender, other)[1]], "key": fields(Sender(), tok), "two": [*good, fields(sender, tok)[1]], "none": good[:1],
        "empty": [good[0], "DPoP:"], "rubbish": [good[0], "DPoP: a.b.c"],
    }  # fmt: skip
    for name, found in wrong.items():
        answer = ask(daemon, *found)
        assert (name, answer.status, answer.error) == (name, 401, "Token validation failed")
        assert answer["WWW-Authenticate"].startswith("DPoP ") or name in ("key", "two", "none"), name
    assert not upstream.calls
    assert ask(daemon, *good).status == 200


def test_a_wrong_token(daemon: Daemon, sender: Sender) -> None:
    """What is wrong with the token itself is told as ever, in the scheme in which it came."""
    for tok, says in ((sender.token(SECRET[::-1]), "Invalid token signature"), (sender.token(SECRET, exp=1), "Token expired"), ("x", "Token validation failed")):
        answer = ask(daemon, *fields(sender, tok))
        assert (answer.status, answer.error) == (401, says)
        assert answer["WWW-Authenticate"].startswith('DPoP realm="gateway", error="invalid_token"')
        assert 'algs="ES256' in answer["WWW-Authenticate"]


def test_a_token_that_is_bound_to_nobody(daemon: Daemon, sender: Sender) -> None:
    """It passes as Bearer; as DPoP its proof proves nothing, so it is refused."""
    assert daemon.get().status == daemon.get().status == 200
    assert ask(daemon, *fields(sender, token())).status == 401


def test_routes(daemon: Daemon, sender: Sender) -> None:
    """A route that requires proofs takes no bearer token, known or not; one that takes none refuses bound tokens."""
    tok = sender.token(SECRET)
    daemon.get()
    for _ in range(3):
        answer = daemon.get("/only/x")
        assert (answer.status, answer.error) == (401, "Missing or invalid Authorization header")
        assert [value.split(" ")[0] for value in answer.values("WWW-Authenticate")] == ["DPoP"]
        assert ask(daemon, *fields(sender, tok, htu="http://gateway.test/only/x"), path="/only/x").status == 200
        assert daemon.get("/never/x").status == 200
        assert ask(daemon, *fields(sender, tok, htu="http://gateway.test/never/x"), path="/never/x").status == 401
        assert ask(daemon, f"Authorization: Bearer {tok}", path="/never/x").status == 401
    nothing = daemon.get(tok=None)
    assert [value.split(" ")[0] for value in nothing.values("WWW-Authenticate")] == ["Bearer", "DPoP"]


@pytest.mark.parametrize("name", ["DPoP", "dpop", "DPOP"])
def test_spellings(daemon: Daemon, upstream: Upstream, name: str) -> None:
    """A proof field without need is dropped in every case."""
    assert daemon.get("/api/v1/users/7", f"{name}: hunter2").status == 200
    assert daemon.get("/never/x", f"{name}: hunter2").status == 200
    assert b"hunter2" not in upstream.log


def test_behind_a_proxy(tmp_path: Path, upstream: Upstream, sender: Sender) -> None:
    """The URL is the one the client called: by a trusted proxy's word, and by nobody else's."""
    tok, seen = sender.token(SECRET), "https://shop.example/api/v1/users/7"
    told = ["X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example"]
    for proxies, status in (("", 401), ("trusted_proxies = 127.0.0.1", 200)):
        folder = tmp_path / (proxies or "none")[:7]
        folder.mkdir()
        with gateway(folder, upstream, rest="[dpop]\nmode = accept", gateway=proxies) as daemon:
            assert ask(daemon, *fields(sender, tok, htu=seen), *told).status == status
            assert ask(daemon, *fields(sender, tok), *told).status == {200: 401, 401: 200}[status]


def test_nonces(tmp_path: Path, upstream: Upstream, sender: Sender) -> None:
    """Where nonces are asked for, the client is told one, uses it, and is told a newer one in time."""
    with gateway(tmp_path, upstream, rest="[dpop]\nmode = accept\nnonce = yes") as daemon:
        tok = sender.token(SECRET)
        refused = ask(daemon, *fields(sender, tok))
        assert (refused.status, refused.error) == (401, "Token validation failed")
        assert 'DPoP realm="gateway", error="use_dpop_nonce"' in refused["WWW-Authenticate"]
        assert ask(daemon, *fields(sender, tok, nonce=refused["DPoP-Nonce"])).status == 200
        assert ask(daemon, *fields(sender, tok, nonce=refused["DPoP-Nonce"][::-1])).status == 401
        assert daemon.rows(2, "status = 401")[0]["reason"] == "proof_nonce"


def test_a_full_memory(tmp_path: Path, upstream: Upstream, sender: Sender) -> None:
    """When one user has an eighth of the memory of proofs, the next is 503; others go on."""
    with gateway(tmp_path, upstream, rest="[dpop]\nmode = accept\nreplays = 100") as daemon:
        statuses = [ask(daemon, *fields(sender, sender.token(SECRET))).status for _ in range(14)]
        assert statuses == [200] * 12 + [503] * 2
        assert ask(daemon, *fields(sender, sender.token(SECRET, sub="bob"))).status == 200
        row = daemon.rows(1, "status = 503")[0]
        assert row["reason"] == "proof_memory"


def test_not_configured(tmp_path: Path, upstream: Upstream, sender: Sender) -> None:
    """A gateway that knows no proofs refuses a bound token in every scheme, and forwards no proof."""
    with gateway(tmp_path, upstream) as daemon:
        tok = sender.token(SECRET)
        assert ask(daemon, *fields(sender, tok)).error == "Missing or invalid Authorization header"
        for _ in range(2):
            assert ask(daemon, f"Authorization: Bearer {tok}").error == "Token validation failed"
        assert daemon.get("/api/v1/users/7", "DPoP: hunter2", "d_p_o_p: y").status == 200
        assert b"hunter2" not in upstream.log


def test_pipelined(daemon: Daemon, sender: Sender) -> None:
    """On one connection each request needs a proof of its own."""
    tok = sender.token(SECRET)
    good, bad = fields(sender, tok), fields(sender, tok, jti="again")
    with daemon.connect() as client:
        for found in (good, bad, bad, fields(sender, tok)):
            client.send(request("/api/v1/users/7", *found, tok=None))
        assert [client.answer().status for _ in range(4)] == [200, 200, 401, 200]


def test_two_gateways_with_one_store(tmp_path: Path, upstream: Upstream, sender: Sender) -> None:
    """A proof that one gateway has seen is refused by all that share its store, and by each while the store is away."""
    server = Valkey()
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    # A time-out that a busy machine does not reach; open: limits are waived in an outage, proofs are not.
    options = f"store = {server.url}\nstore_timeout = 10s\non_store_failure = open"
    rest = "[dpop]\nmode = accept"
    try:
        with (
            gateway(one, upstream, ratelimit=options, rest=rest) as first,
            gateway(two, upstream, ratelimit=options, rest=rest) as second,
        ):
            found = fields(sender, sender.token(SECRET))
            assert [ask(daemon, *found).status for daemon in (first, second, first, second)] == [200, 401, 401, 401]
            server.kill()
            found = fields(sender, sender.token(SECRET))
            assert [ask(first, *found).status for _ in range(3)] == [200, 401, 401]
    finally:
        server.stop()


def test_reload(daemon: Daemon, sender: Sender) -> None:
    """A proof that passed before a reload is refused after it; off and on again, tokens are looked at anew."""
    tok = sender.token(SECRET)
    found = fields(sender, tok)
    assert ask(daemon, *found).status == 200
    text = daemon.ini.read_text()
    assert "reloaded" in daemon.reload(text.replace("edge = test-edge", "edge = other"))
    assert ask(daemon, *found).status == 401
    assert ask(daemon, *fields(sender, tok)).status == 200
    assert "reloaded" in daemon.reload(text.replace("mode = accept", "mode = off").replace("mode = require", "mode = off"))
    assert ask(daemon, *fields(sender, tok)).status == 401
    assert ask(daemon, f"Authorization: Bearer {tok}").status == 401
    assert "reloaded" in daemon.reload(text)
    assert ask(daemon, *fields(sender, tok)).status == 200
    assert ask(daemon, f"Authorization: Bearer {tok}").status == 401
