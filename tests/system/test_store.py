"""A shared store, with real daemons and a real Valkey."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.valkey import Valkey, ask
from tests.system.outage import FAULTS, Outage, said
from tests.system.test_lifecycle import run
from tests.system.tools import WAIT, Daemon, Upstream, gateway, request, token


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A server that the test may kill."""
    server = Valkey()
    yield server
    server.stop()


def statuses(daemons: list[Daemon], clients: int, each: int, tok: str) -> list[int]:
    """What so many concurrent clients of one user are answered, spread over the gateways."""
    found: list[int] = []
    barrier = threading.Barrier(clients)

    def client(number: int) -> None:
        with daemons[number % len(daemons)].connect() as connection:
            barrier.wait(WAIT)
            for _ in range(each):
                connection.send(request("/api/v1/users/7", tok=tok))
                found.append(connection.answer().status)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * WAIT)
        assert not thread.is_alive()
    return found


def test_two_gateways_one_limit(tmp_path: Path, valkey: Valkey, upstream: Upstream) -> None:
    """64 clients of one user at two gateways: exactly the limit passes, all others get 429."""
    # A time-out that a busy machine does not reach: this is about counting.
    options = f"store = {valkey.url}\nstore_timeout = 10s\non_store_failure = closed"
    limit = "ratelimit.limits = 100/600s"
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    with (
        gateway(one, upstream, ratelimit=options, users=limit) as first,
        gateway(two, upstream, ratelimit=options, users=limit) as second,
    ):
        found = statuses([first, second], 64, 4, token("busy"))
        assert (found.count(200), found.count(429), len(found)) == (100, 156, 256)
        refused = first.get(tok=token("busy"))
        assert (refused.status, refused["X-RateLimit-Limit"], refused["X-RateLimit-Remaining"]) == (429, "100", "0")
        assert 0 < int(refused["Retry-After"]) <= 640
        assert first.get(tok=token("other"))["X-RateLimit-Remaining"] == "99"
        assert second.get(tok=token("other"))["X-RateLimit-Remaining"] == "98"


ANSWERS = {"local": {200}, "open": {200}, "closed": {200, 503}}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("policy", ANSWERS)
def test_an_outage_under_load(tmp_path: Path, policy: str, fault: str) -> None:
    """The store dies, hangs, fills up or turns read-only in mid-load: only the policy's answers, then recovery."""
    outage = Outage(tmp_path, policy, fault)
    assert set(outage.statuses()) == ANSWERS[policy]
    reason = "store" if policy == "closed" else f"store_{policy}"
    assert set(outage.reasons) == {"", reason}
    assert outage.reasons[reason] >= 200
    told = [tells for _, _, _, tells in outage.answers]
    # Nothing is told of a limit that nobody counts.
    assert all(told) == (policy == "local")
    assert outage.log.count("can't be used") == outage.log.count("is used again")


def test_local_counters_hold_the_share(tmp_path: Path, valkey: Valkey, upstream: Upstream) -> None:
    """Without the store a machine of four lets a quarter of the limit pass, and the audit tells which it was."""
    options = f"store = {valkey.url}\nmachines = 4"
    with gateway(tmp_path, upstream, ratelimit=options, users="ratelimit.limits = 40/600s") as daemon:
        assert daemon.get()["X-RateLimit-Limit"] == "40"
        valkey.kill()
        said(daemon, "can't be used")
        found = [daemon.get(tok=token("bob")) for _ in range(12)]
        assert [answer.status for answer in found] == [200] * 10 + [429] * 2
        assert {answer["X-RateLimit-Limit"] for answer in found} == {"10"}
        rows = daemon.rows(12, "user_id = 'bob'")
        assert [row["reason"] for row in rows] == ["store_local"] * 10 + ["limit_local"] * 2


def test_a_routes_own_policy(tmp_path: Path, valkey: Valkey, upstream: Upstream) -> None:
    """A route that must not pass uncounted is closed while others go on."""
    options = f"store = {valkey.url}\non_store_failure = open"
    with gateway(tmp_path, upstream, ratelimit=options, users="ratelimit.on_store_failure = closed",
                 routes=f"[route /free]\nupstream = http://127.0.0.1:{upstream.port}") as daemon:  # fmt: skip
        valkey.kill()
        assert daemon.get("/free").status == 200
        refused = daemon.get()
        assert (refused.status, refused.error) == (503, "Service unavailable")
        assert refused["Retry-After"] == "1"


def test_a_store_that_is_not_there(tmp_path: Path, upstream: Upstream) -> None:
    """A gateway starts without its store and says so; the password is nowhere."""
    options = "store = redis://gw:hunter2@127.0.0.1:1/0"
    with gateway(tmp_path, upstream, ratelimit=options) as daemon:
        assert daemon.get().status == 200
        said(daemon, "can't be used")
        check = run(sys.executable, "-m", "gateway.cli", "check", str(daemon.ini), cwd=tmp_path)
        assert check.returncode == 0, check.stderr
        assert "redis://127.0.0.1:1/0" in check.stdout
        assert "hunter2" not in check.stdout + check.stderr + daemon.log.read_text()


def test_embedded(tmp_path: Path, upstream: Upstream) -> None:
    """The gateway's own server counts, is restarted when it dies, and is gone at the end."""
    with gateway(tmp_path, upstream, ratelimit="store = embedded", users="ratelimit.limits = 50/600s") as daemon:
        # The gateway listens before its store does; until then counts are its own.
        while not counted(tmp_path / "gateway-store" / "socket", b"sub:eve"):
            assert daemon.get(tok=token("eve")).status == 200
        (pid,) = children(daemon.process.pid)
        os.kill(pid, signal.SIGKILL)
        said(daemon, "has died")
        said(daemon, "is used again")
        assert daemon.get(tok=token("eve")).status == 200
        (again,) = children(daemon.process.pid)
        assert again != pid
    assert not Path(f"/proc/{again}").exists()


def counted(path: Path, key: bytes) -> bool:
    """Whether the store at that socket has counted such a key."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return any(each.endswith(key) for each in ask(sock, "KEYS", "*"))


def children(pid: int) -> list[int]:
    """Its child processes."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_reloads(tmp_path: Path, valkey: Valkey, upstream: Upstream) -> None:
    """Counters in the store and the connection to it survive a reload; another policy holds at once, also in an outage."""
    options = f"store = {valkey.url}\nstore_timeout = 10s\non_store_failure = closed"
    with gateway(tmp_path, upstream, ratelimit=options, users="ratelimit.limits = 5/600s") as daemon:
        good = daemon.ini.read_text()
        assert [daemon.get()["X-RateLimit-Remaining"] for _ in range(2)] == ["4", "3"]
        daemon.reload(good.replace("/api/v1/users", "/api/v1").replace("edge = test-edge", "edge = other"))
        assert daemon.get()["X-RateLimit-Remaining"] == "4"  # a route's counter goes by its prefix
        daemon.reload(good.replace("store_timeout = 10s", "store_timeout = 9s"))
        assert daemon.get()["X-RateLimit-Remaining"] == "2"
        assert "[ratelimit] store_timeout has changed in the file, which takes a restart" in daemon.log.read_text()
        valkey.kill()
        assert daemon.get().status == 503
        said(daemon, "can't be used")
        daemon.reload(good.replace("= closed", "= open"))
        assert [daemon.get().status for _ in range(7)] == [200] * 7
        daemon.reload(good.replace("= closed", "= local"))
        assert [daemon.get().status for _ in range(6)] == [200] * 5 + [429]
        daemon.reload(good)
        assert daemon.get().status == 503
