"""A configuration as it was checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.settings import SettingsError
from gateway.workers.snapshot import Snapshot

TEXT = "[jwt]\nsecret_file = s\n[gateway]\nedge = ${EDGE}\n[route /a]\nupstream = http://127.0.0.1:1\n"
SECRET = "0123456789abcdef0123456789abcdef"


def test_it_stays_as_it_was(tmp_path: Path) -> None:
    """Files that are edited or removed later change nothing; the environment is whatever it is then."""
    ini, secret = tmp_path / "g.ini", tmp_path / "s"
    ini.write_text(TEXT)
    secret.write_text(SECRET)
    secret.chmod(0o600)
    settings, snapshot = Snapshot.take(str(ini), {"EDGE": "here"})
    ini.write_text(TEXT + "nonsense")
    secret.unlink()
    again = snapshot.settings({"EDGE": "here"})
    assert again.jwt.secret is not None
    assert again.jwt.secret.reveal() == SECRET.encode()
    assert (again.gateway, again.routes[0].prefix) == (settings.gateway, "/a")
    assert snapshot.settings({"EDGE": "there"}).gateway.edge == "there"
    snapshot.close()


def test_the_environment_is_not_in_it(tmp_path: Path) -> None:
    """A secret of the environment is not written into the snapshot."""
    ini = tmp_path / "g.ini"
    ini.write_text(TEXT.replace("secret_file = s", "secret = ${S}"))
    _, snapshot = Snapshot.take(str(ini), {"EDGE": "x", "S": SECRET})
    with open(f"/proc/self/fd/{snapshot.descriptor}", "rb") as file:
        held = file.read()
    assert b"${S}" in held
    assert SECRET.encode() not in held
    snapshot.close()


def test_auto_stays_what_it_was(tmp_path: Path) -> None:
    """A worker bound to one processor understands workers = auto as its supervisor did."""
    ini = tmp_path / "g.ini"
    ini.write_text(TEXT.replace("edge = ${EDGE}", "workers = auto").replace("secret_file = s", f"secret = {SECRET}"))
    settings, snapshot = Snapshot.take(str(ini), {})
    pool = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(pool)})
        assert snapshot.settings({}).gateway.workers == settings.gateway.workers == len(pool)
    finally:
        os.sched_setaffinity(0, pool)
        snapshot.close()


def test_a_bad_file(tmp_path: Path) -> None:
    """A file with a problem makes no snapshot."""
    ini = tmp_path / "g.ini"
    ini.write_text("[nonsense]")
    with pytest.raises(SettingsError):
        Snapshot.take(str(ini), {})


def test_a_file_that_was_not_read(tmp_path: Path) -> None:
    """A snapshot never looks at the disk, not even for a file the environment has it name."""
    ini, secret = tmp_path / "g.ini", tmp_path / "s"
    ini.write_text(TEXT.replace("secret_file = s", "secret_file = ${F}"))
    for name in ("s", "t"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o600)
    assert secret.exists()
    _, snapshot = Snapshot.take(str(ini), {"EDGE": "x", "F": "s"})
    with pytest.raises(SettingsError, match="can't be read"):
        snapshot.settings({"EDGE": "x", "F": "t"})
    snapshot.close()
