"""Workers that die, hang, can't start, or lose their supervisor, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

from tests.system.load import Load
from tests.system.scripts import DONE, Held
from tests.system.tools import (
    SECRET,
    WAIT,
    Client,
    Daemon,
    Upstream,
    configuration,
    free_port,
    gateway,
    request,
)
from tests.system.waiting import TWO, children, everywhere, gone, pids, ready, said, until


def test_a_killed_worker(tmp_path: Path, upstream: Upstream) -> None:
    """SIGKILL of a worker under load: nobody is refused, only what it had in flight is lost, it comes back."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        first = ready(daemon)
        with Load(daemon.port) as load:
            load.more()
            assert daemon.rows(1, "worker = 1")
            os.kill(first[1], signal.SIGKILL)
            until(lambda: pids(daemon)[1] != first[1])
            load.more()
            second = pids(daemon)
        assert second[2] == first[2]
        assert load.refused == 0
        assert load.statuses == {200}
        assert len(load.open) <= 8  # one for each client at most
        assert "worker 1, process" in daemon.log.read_text()
        assert "has ended: SIGKILL" in daemon.log.read_text()
        # Rows are lost only from the end of what that worker had answered.
        known = {row["path"] for row in daemon.rows()}
        for connection in load.answered:
            written = [path in known for path in connection]
            assert written == sorted(written, reverse=True)
        assert {row["worker"] for row in daemon.rows()} == {1, 2}


def test_a_spare_worker_follows(tmp_path: Path, upstream: Upstream) -> None:
    """A worker that was made ready beforehand follows on one that dies; it serves by the newest file, and another is made."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:

        def spare(*others: int) -> int:
            """A worker that has no number."""
            found: set[int] = set()

            def there() -> bool:
                found.update(children(daemon.process.pid, "gateway.workers.child") - set(pids(daemon).values()) - set(others))
                return bool(found)

            until(there, "no spare worker")
            return found.pop()

        first = ready(daemon)
        one = spare()
        daemon.ini.write_text(daemon.ini.read_text() + f"[route /added]\nupstream = http://127.0.0.1:{upstream.port}\n")
        daemon.process.send_signal(signal.SIGHUP)
        said(daemon, "reloaded: 2 routes", 3)
        os.kill(first[2], signal.SIGKILL)
        until(lambda: pids(daemon)[2] == one)
        assert everywhere(daemon.port, "/added") == {200}
        two = spare(first[2], one)
        os.kill(two, signal.SIGKILL)
        said(daemon, "the spare worker has ended: SIGKILL")
        os.kill(one, signal.SIGKILL)  # without a spare it takes longer, and that is all
        until(lambda: pids(daemon)[2] not in (one, two))
        three = spare(one, two, pids(daemon)[2])
    until(lambda: gone(three))


def test_no_orphans(tmp_path: Path, upstream: Upstream) -> None:
    """Workers whose supervisor was killed answer what is in flight, and end."""
    held = upstream.answer = Held(DONE)
    with contextlib.suppress(AssertionError), gateway(tmp_path, upstream, gateway=TWO) as daemon:
        ready(daemon)

        def processes() -> set[int]:
            return children(daemon.process.pid, "gateway.workers.child")

        until(lambda: len(processes()) == 3)  # a spare one, too
        workers = processes()
        with daemon.connect() as client:
            client.send(request("/api/v1/users/1"))
            assert held.asked.wait(WAIT)
            daemon.process.kill()
            daemon.process.wait()

            def refused() -> bool:
                try:
                    Client(daemon.port).sock.close()
                except ConnectionRefusedError:
                    return True
                return False

            until(refused)
            held.go.set()
            assert client.answer().body == b"done"
            assert client.rest() == b""
        for pid in workers:
            until(lambda pid=pid: gone(pid))
        assert not (tmp_path / "gateway-store" / "socket").exists()  # nor is their store's server left
        assert daemon.rows(1)[0]["status"] == 200


def test_a_silent_worker(tmp_path: Path, upstream: Upstream) -> None:
    """A worker that no longer beats is killed and replaced."""
    with gateway(tmp_path, upstream, gateway=TWO + "\nworker_timeout = 2s") as daemon:
        first = ready(daemon)
        os.kill(first[2], signal.SIGSTOP)
        until(lambda: pids(daemon)[2] != first[2])
        assert "worker 2, process" in daemon.log.read_text()
        assert "has been silent for" in daemon.log.read_text()
        assert pids(daemon)[1] == first[1]
        assert daemon.get().status == 200


def test_a_worker_that_cannot_start(tmp_path: Path, upstream: Upstream) -> None:
    """Of a worker that fails at each start the supervisor says why and how often, and goes on trying."""
    with gateway(tmp_path, upstream, gateway=TWO) as daemon:
        first = ready(daemon)
        spoilt = sqlite3.connect(tmp_path / "audit.sqlite3", isolation_level=None)
        spoilt.execute("PRAGMA user_version = 99")
        os.kill(first[1], signal.SIGKILL)
        said(daemon, "times soon after its start")
        assert "worker 1, process" in daemon.log.read_text()
        assert "the audit database can't be used" in daemon.log.read_text()
        assert "version 99" in daemon.log.read_text()
        assert daemon.get().status == 200  # the other one serves
        spoilt.execute("PRAGMA user_version = 1")
        spoilt.close()
        until(lambda: pids(daemon)[1] != first[1])


def test_a_restarted_worker_serves_what_was_checked(tmp_path: Path, upstream: Upstream) -> None:
    """A worker that starts later does not read a file that was edited meanwhile, nor its secret."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    port = free_port()
    text = configuration(tmp_path, upstream, port, gateway=TWO).replace("secret = ${JWT_SECRET}", "secret_file = secret")
    daemon = Daemon(tmp_path, text, port)
    try:
        first = ready(daemon)
        daemon.ini.write_text(text + f"[route /added]\nupstream = http://127.0.0.1:{upstream.port}\n")
        secret.write_text("another-secret-another-secret-another")
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not set(first.values()) & set(pids(daemon).values()))
        assert everywhere(port, "/api/v1/users/1") == {200}
        assert everywhere(port, "/added") == {404}
    finally:
        assert daemon.stop() == 0, daemon.log.read_text()
