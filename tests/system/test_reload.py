"""SIGHUP: another configuration in a running gateway, whole or not at all, and nobody is cut."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.system.load import Load
from tests.system.scripts import DONE, Held
from tests.system.tools import (
    SECRET,
    WAIT,
    Client,
    Upstream,
    free_port,
    gateway,
    request,
    token,
)

OTHER = SECRET[::-1]


def listening(text: str, *more: str) -> str:
    """A configuration with more listeners."""
    first = ":interface=127.0.0.1\n"
    return text.replace(first, first + "".join(f"    {each}\n" for each in more), 1)


def test_reloads_under_load_cut_nobody(tmp_path: Path, upstream: Upstream) -> None:
    """20 reloads in quick succession under load, half of them of bad files: not one request fails or is cut."""
    with gateway(tmp_path, upstream, gateway="max_requests_in_flight = 1000") as daemon:
        good = daemon.ini.read_text()
        with Load(daemon.port, clients=6) as load:
            for number in range(10):
                load.more(20)
                changed = good.replace("limit = 100000", f"limit = {100001 + number}")
                assert "reloaded: 1 routes" in daemon.reload(changed)
                load.more(20)
                said = daemon.reload(changed.replace("edge", "egde") + "\n[nonsense]\n")
                assert "reload refused: 2 problems; the old configuration stays" in said
            for _ in range(20):
                daemon.process.send_signal(signal.SIGHUP)
            daemon.reload(good)
            load.more(20)
        assert (load.open, load.connections) == ([], 6)
        assert load.statuses == {200}
        rows = daemon.rows(load.count)
        assert len(rows) == load.count
        assert {row["reason"] for row in rows} == {""}


def test_the_next_request_meets_the_new_rules(tmp_path: Path, upstream: Upstream) -> None:
    """On a connection that stays: a route gone is 404, a new one there, a changed secret 401, edge and limits new."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with gateway(tmp_path, upstream) as daemon, daemon.connect() as client:
        first = daemon.ini.read_text().replace("secret = ${JWT_SECRET}", "secret_file = secret")
        new = f"\n[route /new]\nupstream = http://127.0.0.1:{upstream.port}\n"

        def ask(path: str, **fields: str) -> int:
            client.send(request(path, **fields))
            return client.answer().status

        assert (ask("/api/v1/users/1"), ask("/new/1")) == (200, 404)
        daemon.reload(first + new)
        assert (ask("/api/v1/users/1"), ask("/new/1")) == (200, 200)
        daemon.reload(first.replace("/api/v1/users", "/other") + new + "methods = POST")
        assert (ask("/api/v1/users/1"), ask("/new/1"), ask("/other/1")) == (404, 405, 200)
        secret.write_text(OTHER)  # the file's text is read again, too
        daemon.reload()
        assert ask("/other/1") == 401
        secret.write_text(SECRET)
        daemon.reload(first.replace("edge = test-edge", "edge = here\nmax_request_line = 300"))
        assert ask("/api/v1/users/1") == 200
        client.send(request("/health", tok=None))
        assert b'"here"' in client.answer().body
        client.send(request("/" + "x" * 300))
        assert client.answer().status == 414


def test_counters_survive_unless_their_rule_changes(tmp_path: Path, upstream: Upstream) -> None:
    """A user at the limit stays there across reloads of everything else; another limit counts anew."""
    with gateway(tmp_path, upstream, users="ratelimit.limit = 3") as daemon:
        good = daemon.ini.read_text()
        assert [daemon.get().status for _ in range(4)] == [200, 200, 200, 429]
        daemon.reload(good.replace("limit = 100000", "limit = 5").replace("[jwt]", "[jwt]\nleeway = 3s"))
        assert daemon.get().status == 429
        daemon.reload(good.replace("ratelimit.limit = 3", "ratelimit.limit = 4"))
        assert [daemon.get().status for _ in range(5)] == [200] * 4 + [429]


def test_a_bad_file_changes_nothing(tmp_path: Path, upstream: Upstream) -> None:
    """Every problem is logged on a line of its own and told to the manager; the secret never is."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(WAIT)
        with gateway(tmp_path, upstream, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}) as daemon:

            def told(start: str) -> str:
                while not (said := manager.recv(4096).decode()).startswith(start):
                    pass
                return said

            told("READY=1")
            told("WATCHDOG=1")
            bad = daemon.ini.read_text().replace("secret = ${JWT_SECRET}", "secret = shrt").replace("edge", "egde")
            said = daemon.reload(bad)
            assert f" reload: {daemon.ini}:5: [gateway] egde: unknown option" in said
            assert f" reload: {daemon.ini}:8: [jwt] secret: " in said
            assert said.count(" reload: ") == 2
            assert told("RELOADING=1").partition("=")[2].startswith("1\nMONOTONIC_USEC=")
            status = told("READY=1")
            assert "reload refused at " in status
            assert "(1 of 2)" in status
            assert "egde" in status
            assert daemon.get().status == 200
            daemon.reload(daemon.ini.read_text().replace("shrt", "${JWT_SECRET}").replace("egde", "edge"))
            assert "; reloaded at " in told("READY=1")
            daemon.ini.unlink()
            assert "can't be read: No such file" in daemon.reload()
            assert daemon.get().status == 200
            assert "shrt" not in daemon.log.read_text()
            assert daemon.stop() == 0
            told("STOPPING=1")


def test_listeners_come_and_go(tmp_path: Path, upstream: Upstream) -> None:
    """Listeners that stay are never closed; added ones open; connections of removed ones end with their answers."""
    held = upstream.answer = Held(only=b"/slow")
    port, path = free_port(), tmp_path / "gateway.sock"
    with gateway(tmp_path, upstream, gateway="shutdown_grace = 1s") as daemon, daemon.connect() as stays:
        one = daemon.ini.read_text()
        three = listening(one, f"unix:{path}", f"tcp:{port}:interface=127.0.0.1")
        for _ in range(3):  # a UNIX socket's name is free again when it is needed
            assert "too" in daemon.reload(three)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
            daemon.reload(one)
            assert not path.exists()
        daemon.reload(three)
        with Client(port) as busy, Client(port) as idle, Client(port) as later:
            for client in (idle, later):
                client.send(request("/health"))
                assert client.answer().status == 200
            busy.send(request("/api/v1/users/slow"))
            assert held.asked.wait(WAIT)
            said = daemon.reload(one)
            assert f"listening on tcp:{port}:interface=127.0.0.1 no more" in said
            with pytest.raises(ConnectionRefusedError):
                Client(port)
            later.send(request("/health"))
            assert later.answer()["Connection"] == "close"
            assert (later.rest(), idle.rest()) == (b"", b"")
            held.go.set()
            answer = busy.answer()
            assert (answer.status, answer["Connection"], busy.rest()) == (200, "close", b"")
        stays.send(request("/api/v1/users/1"))
        answer = stays.answer()
        assert (answer.status, answer.values("Connection")) == (200, [])


def test_a_listener_that_cannot_open_refuses_the_reload(tmp_path: Path, upstream: Upstream) -> None:
    """With one port taken nothing of the new file holds: no other listener, no rule."""
    free = free_port()
    with gateway(tmp_path, upstream) as daemon, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bad = daemon.ini.read_text().replace("/api/v1/users", "/other")
        added = f"tcp:{free}:interface=127.0.0.1"
        said = daemon.reload(listening(bad, added, f"tcp:{port}:interface=127.0.0.1"))
        assert f"reload: can't listen on tcp:{port}" in said
        with pytest.raises(ConnectionRefusedError):
            Client(free)
        assert daemon.get().status == 200
        assert "reloaded" in daemon.reload(listening(bad, added))
        with Client(free) as client:
            client.send(request("/other/1"))
            assert client.answer().status == 200


def test_what_is_in_flight_ends_under_the_old_rules(tmp_path: Path, upstream: Upstream) -> None:
    """A slow request whose route and secret go meanwhile gets its answer; so does an upload under its old bound."""
    held = upstream.answer = Held(DONE)
    with gateway(tmp_path, upstream) as daemon, daemon.connect() as client, daemon.connect() as upload:
        client.send(request("/api/v1/users/1"))
        upload.send(request("/api/v1/users/2", "Content-Length: 6", "Expect: 100-continue", method="POST"))
        assert upload.answer().status == 100
        assert held.asked.wait(WAIT)
        gone = daemon.ini.read_text().replace("/api/v1/users", "/other").replace("[audit]", "[body]\nmax_size = 3\n[audit]")
        daemon.reload(gone)
        held.go.set()
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"done")
        upload.send(b"abcdef")
        assert upload.answer().status == 200
        assert upstream.calls[-1].body == b"abcdef"
        client.send(request("/api/v1/users/1"))
        assert client.answer().status == 404


def test_another_audit_database(tmp_path: Path, upstream: Upstream) -> None:
    """Rows go to the new database from the reload on, and no row is lost; one that can't be used refuses it."""
    with gateway(tmp_path, upstream) as daemon:
        good = daemon.ini.read_text()
        bad = tmp_path / "newer.sqlite3"
        connection = sqlite3.connect(bad)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        assert "version 99" in daemon.reload(good.replace("audit.sqlite3", "newer.sqlite3"))
        with Load(daemon.port, clients=6) as load:
            for name in ("one.sqlite3", "two.sqlite3", "audit.sqlite3"):
                load.more(100)
                other = good.replace("audit.sqlite3", name).replace("= 20ms", "= 10ms\nqueue = 200000\nbatch = 100")
                assert "reloaded" in daemon.reload(other)
            load.more(100)
        assert (load.open, load.connections) == ([], 6)
        daemon.get("/last")
        daemon.rows(1, "path = '/last'")
        found = []
        for name in ("audit.sqlite3", "one.sqlite3", "two.sqlite3"):
            connection = sqlite3.connect(tmp_path / name)
            found += [row[0] for row in connection.execute("SELECT request_id FROM audit_logs")]
            connection.close()
        assert len(found) == len(set(found)) == load.count + 1
    assert not list(tmp_path.glob("*-wal"))


def test_sigterm_during_reloads(tmp_path: Path, upstream: Upstream) -> None:
    """A stop amid reloads is a stop: exit status 0, everything closed."""
    with gateway(tmp_path, upstream) as daemon:
        for _ in range(50):
            daemon.process.send_signal(signal.SIGHUP)
        daemon.process.send_signal(signal.SIGTERM)
        for _ in range(50):
            with contextlib.suppress(ProcessLookupError):
                daemon.process.send_signal(signal.SIGHUP)
        assert daemon.process.wait(WAIT) == 0
        assert "Traceback" not in daemon.log.read_text()


def test_systemd_reload_checks_the_file_first(tmp_path: Path) -> None:
    """The unit checks the file, then sends SIGHUP; it knows when the gateway is ready, and watches it."""
    unit = (Path(__file__).parents[2] / "systemd" / "gateway.service").read_text()
    lines = unit.splitlines()
    assert "Type=notify" in lines
    reloads = [line for line in lines if line.startswith("ExecReload=")]
    assert [line.split()[1:] for line in reloads] == [
        ["check", "/etc/gateway/gateway.ini"], ["-HUP", "$MAINPID"],
    ]  # fmt: skip
    assert any(line.startswith("WatchdogSec=") for line in lines)
    if Path("/usr/bin/systemd-analyze").exists():
        done = subprocess.run(
            ["systemd-analyze", "verify", str(Path(__file__).parents[2] / "systemd" / "gateway.service")],
            capture_output=True, text=True, timeout=WAIT, env={**os.environ},
        )  # fmt: skip
        assert "Unknown" not in done.stderr


def test_tokens_verified_before_are_verified_anew(tmp_path: Path, upstream: Upstream) -> None:
    """A token of the new secret is good right after the reload, one of the old no more."""
    with gateway(tmp_path, upstream, env={"OTHER": OTHER}) as daemon:
        old = token()
        assert daemon.get(tok=old).status == 200
        daemon.reload(daemon.ini.read_text().replace("JWT_SECRET", "OTHER"))
        assert daemon.get(tok=old).status == 401
