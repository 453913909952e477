"""Start, stop and the command line, with the real daemon."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.tools import (
    SECRET,
    TWISTD,
    WAIT,
    Daemon,
    Upstream,
    free_port,
    gateway,
    request,
    token,
)


def run(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=WAIT, cwd=cwd,
        env={**os.environ, "JWT_SECRET": SECRET, **env},
    )  # fmt: skip


GOOD = "[jwt]\nsecret = ${JWT_SECRET}\n[route /a]\nupstream = http://127.0.0.1:1\n"


def test_a_bad_file_starts_nothing(tmp_path: Path) -> None:
    """Every problem is printed at once, with file and line; exit status 1; no port, no database."""
    ini = tmp_path / "bad.ini"
    port = free_port()
    ini.write_text(f"[gateway]\nlisten = tcp:{port}\nwrokers = 2\n[jwt]\nsecret = shrt\n[route /a]\n")
    done = run(*TWISTD, "-n", "--pidfile=", "gateway", "--config", str(ini), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"{ini}: 3 problems; not starting."
    assert f'{ini}:3: [gateway] wrokers: unknown option; did you mean "workers"?' in done.stderr
    assert f"{ini}:5: [jwt] secret:" in done.stderr
    assert f"{ini}:6: [route /a] upstream: missing" in done.stderr
    assert "shrt" not in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [ini]


def test_check(tmp_path: Path) -> None:
    """--check says that a good file is good and starts nothing."""
    ini = tmp_path / "good.ini"
    ini.write_text(GOOD)
    done = run(*TWISTD, "-n", "--pidfile=", "gateway", "--config", str(ini), "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{ini}: 1 routes, no problem found\n")
    assert list(tmp_path.iterdir()) == [ini]


def test_the_manual_is_a_working_file(tmp_path: Path) -> None:
    """etc/gateway.ini starts the gateway as it stands, but for the port, given the secret it asks for."""
    port = free_port()
    manual = (Path(__file__).parents[2] / "etc" / "gateway.ini").read_text()
    text, count = re.subn(r"^#?listen = .*$", f"listen = tcp:{port}:interface=127.0.0.1", manual, count=1, flags=re.M)
    assert count == 1
    daemon = Daemon(tmp_path, text, port)
    try:
        assert daemon.get("/health", tok=None).status == 200
        assert daemon.get("/nowhere").status == 404
    finally:
        assert daemon.stop() == 0


def test_a_port_in_use(tmp_path: Path) -> None:
    """A port somebody else has is a sentence and exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ini = tmp_path / "gateway.ini"
        ini.write_text(f"[gateway]\nlisten = tcp:{port}:interface=127.0.0.1\n" + GOOD)
        done = run(*TWISTD, "-n", "--pidfile=", "gateway", "--config", str(ini), cwd=tmp_path)
    assert done.returncode == 1
    assert f"can't listen on tcp:{port}" in done.stderr + done.stdout


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    """A database this gateway does not know is left alone: a sentence and exit status 1."""
    connection = sqlite3.connect(tmp_path / "audit.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    ini = tmp_path / "gateway.ini"
    ini.write_text(f"[gateway]\nlisten = tcp:{free_port()}\n" + GOOD)
    done = run(*TWISTD, "-n", "--pidfile=", "gateway", "--config", str(ini), cwd=tmp_path)
    assert done.returncode == 1
    assert "version 99" in done.stderr + done.stdout


def test_kill_9_loses_at_most_a_batch(tmp_path: Path, upstream: Upstream) -> None:
    """After kill -9 the database is whole, and its rows are the first ones without a gap."""
    killed = False
    try:
        with gateway(tmp_path, upstream) as daemon:
            for number in range(60):
                assert daemon.get(f"/api/v1/users/{number}").status == 200
            daemon.rows(30)
            daemon.process.kill()
            daemon.process.wait()
            killed = True
    except AssertionError:
        if not killed:  # else it is the exit status, which says SIGKILL
            raise
    rows = daemon.rows(30)
    assert len(rows) >= 30
    assert [row["path"] for row in rows] == [f"/api/v1/users/{n}" for n in range(len(rows))]
    with contextlib.closing(sqlite3.connect(tmp_path / "audit.sqlite3")) as check:
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_locked_database_fails_no_request(tmp_path: Path, upstream: Upstream) -> None:
    """While somebody locks the database requests go on; their rows are written afterwards."""
    with gateway(tmp_path, upstream) as daemon:
        assert daemon.get().status == 200
        daemon.rows(1)
        lock = sqlite3.connect(tmp_path / "audit.sqlite3", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        assert [daemon.get().status for _ in range(50)] == [200] * 50
        lock.execute("ROLLBACK")
        lock.close()
        assert len(daemon.rows(51)) == 51


def test_a_full_disk_fails_no_request(tmp_path: Path, upstream: Upstream) -> None:
    """While the database's files can't grow requests go on; their rows are written afterwards, the fault told once."""
    with gateway(tmp_path, upstream) as daemon:
        assert daemon.get().status == 200
        daemon.rows(1)
        size = (tmp_path / "audit.sqlite3-wal").stat().st_size
        soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        assert [daemon.get().status for _ in range(100)] == [200] * 100
        daemon.logged("audit")
        assert len(daemon.rows()) < 101
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert len(daemon.rows(101)) == 101


def test_a_unix_socket(tmp_path: Path, upstream: Upstream) -> None:
    """A peer on a UNIX socket is called so, and is refused whenever allow is set."""
    path = tmp_path / "gateway.sock"
    routes = f"[route /fenced]\nupstream = http://127.0.0.1:{upstream.port}\nip.allow = 127.0.0.0/8"
    with gateway(tmp_path, upstream, listen=f"unix:{path}", routes=routes) as daemon:
        for target, status in (("/api/v1/users/1", 200), ("/fenced/x", 403)):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(request(target))
                assert sock.recv(65536).startswith(b"HTTP/1.1 %d" % status)
        assert {row["ip"] for row in daemon.rows(2)} == {"unix"}


def test_a_request_is_served_at_once(tmp_path: Path) -> None:
    """Start-up imports nothing that serving does not need: no control plane client, no Redis."""
    code = (
        "import sys; from twisted.internet import reactor; from gateway.settings import parse;"
        "from gateway.service import GatewayService;"
        f"GatewayService(parse({GOOD!r}, {{'JWT_SECRET': 'x' * 40}}), reactor);"
        "print(sorted(m for m in sys.modules if m in ('treq', 'txredisapi', 'acme', 'requests')))"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_demo(tmp_path: Path) -> None:
    """The demo's printed curl lines do what they say, and it leaves nothing behind."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    process = subprocess.Popen(
        [*TWISTD, "-n", "--pidfile=", "gateway", "--demo"], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    while "leaves nothing behind" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    lines = re.findall(r"^  (curl .*?|for .*? done) *(?:# (\d+).*)?$", said, re.M)
    setting = "; ".join(re.findall(r"^  ([TB]=.*)$", said, re.M))
    statuses = []
    for command, _ in lines:
        done = run("bash", "-c", f"{setting}; {command}")
        statuses.append(re.findall(r"^HTTP/1.1 (\d+)", done.stdout, re.M))
    assert statuses == [["200"], ["401"], ["200", "200", "200", "429"], ["404"], ["200"], ["200"]]
    audit = re.search(r"gateway (audit --database \S+)", said)
    assert audit is not None
    for _ in range(100):  # rows are written every quarter of a second
        rows = run(sys.executable, "-m", "gateway.cli", *audit[1].split()).stdout
        if "/health" in rows:
            break
    assert "alice" in rows
    assert "limit" in rows
    assert "no_token" in rows
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(WAIT) == 0
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


def test_tools(tmp_path: Path, upstream: Upstream) -> None:
    """Gateway token makes a token the gateway takes; gateway audit shows its row."""
    with gateway(tmp_path, upstream, users="require.role = auditor") as daemon:
        cli = (sys.executable, "-m", "gateway.cli")
        made = run(*cli, "token", "--config", str(daemon.ini), "--sub", "carol", "--role", "auditor")
        assert daemon.get(tok=made.stdout.strip()).status == 200
        daemon.rows(1)
        shown = run(*cli, "audit", "--config", str(daemon.ini), "-n", "1", "--user", "carol").stdout
        assert re.search(r"carol +GET +/api/v1/users/7 +200", shown)
        policy = run(*cli, "check", str(daemon.ini)).stdout
        assert "role one of auditor" in policy


def test_plugin_from_any_folder() -> None:
    """Twistd knows the gateway wherever it is started."""
    done = run(*TWISTD, "--help", cwd=Path("/"))
    assert "gateway" in done.stdout
    assert "A zero-trust API gateway" in done.stdout


def test_token_helper_is_refused_elsewhere(tmp_path: Path, upstream: Upstream) -> None:
    """A token made for another secret gets 401 here."""
    with gateway(tmp_path, upstream) as daemon:
        other = tmp_path / "other.ini"
        other.write_text(GOOD)
        made = run(
            sys.executable, "-m", "gateway.cli", "token", "--config", str(other), "--sub", "x",
            JWT_SECRET="another-secret-another-secret-another", cwd=tmp_path,
        )  # fmt: skip
        assert daemon.get(tok=made.stdout.strip()).status == 401
        assert daemon.get(tok=token()).status == 200


def test_daemon_class(tmp_path: Path) -> None:
    """A daemon that cannot start says why in the tests, too."""
    with pytest.raises(RuntimeError, match="not starting"):
        Daemon(tmp_path, "[nonsense]", free_port())
