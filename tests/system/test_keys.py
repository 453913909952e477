"""Tests for gateway keys: what the running gateway knows of its keys, and says of itself while it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.issuer import issuer
from tests.system.test_issuers import section
from tests.system.tools import SECRET, WAIT, Daemon, Upstream, gateway


def asked(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as an operator calls it in the daemon's folder."""
    environ = {**os.environ, "JWT_SECRET": SECRET}
    environ.pop("STATE_DIRECTORY", None)
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "keys", "--config", "gateway.ini", *arguments],
        capture_output=True, text=True, check=False, env=environ, cwd=folder,
    )  # fmt: skip


def sets(daemon: Daemon, good: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The key sets as JSON, once they are so."""
    deadline = time.monotonic() + WAIT
    while True:
        found = [json.loads(line) for line in asked(daemon.folder, "--json").stdout.splitlines() if line.startswith("{")]
        if found and good(found):
            return found
        assert time.monotonic() < deadline, (found, daemon.log.read_text())


def kids(found: dict[str, Any]) -> list[str]:
    """The identifiers of a set's keys."""
    return [key["kid"] for key in found["keys"]]


def test_after_the_start_and_a_rotation(tmp_path: Path, upstream: Upstream) -> None:
    """The set's address, keys, age and next refresh are the running gateway's; a key that it has learnt of appears, one that it has not does not."""
    with issuer() as provider, gateway(tmp_path, upstream, rest=section(provider, refresh_unknown="1h")) as daemon:
        one, local = sets(daemon, lambda found: found[0]["state"] == "fresh")
        assert (one["source"], kids(one), one["last_error"]) == (f"{provider.iss}/jwks", ["k0"], None)
        assert one["keys"][0]["algorithms"] == ["ES256"]
        assert 0 <= one["age"] < WAIT + 60
        assert one["unknown_kids_wait_until"] is None
        # An hour, as the issuer says nothing, of which four fifths and a little less by chance.
        assert 2400 <= one["next_refresh"] - one["fetched"] <= 2900
        assert (local["set"], local["kind"], local["generation"]) == ("jwt", "secret", 1)
        provider.control(rotate=True)
        assert kids(json.loads(asked(tmp_path, "--json").stdout.splitlines()[0])) == ["k0"]
        assert daemon.get(tok=provider.token()).status == 200
        one, _ = sets(daemon, lambda found: kids(found[0]) == ["k1", "k0"])
        assert one["unknown_kids_wait_until"] > time.time()
        text = asked(tmp_path)
        assert text.returncode == 0
        assert "key       k1: ES256" in text.stdout
        assert "kids make no fetch for another 59m" in text.stdout
        assert SECRET not in text.stdout
        assert all(SECRET not in path.read_text() for path in tmp_path.glob("gateway-keys.*"))


def test_an_outage(tmp_path: Path, upstream: Upstream) -> None:
    """Keys that are kept through an outage are shown as such, with the reason and until when; exit status 1, until the issuer is back."""
    options = {"refresh_min": "1s", "refresh_max": "1s"}
    with issuer() as provider, gateway(tmp_path, upstream, rest=section(provider, **options)) as daemon:
        sets(daemon, lambda found: found[0]["state"] == "fresh")
        provider.control(mode="error")
        one, _ = sets(daemon, lambda found: found[0]["state"] == "kept")
        assert kids(one) == ["k0"]
        assert "answered 500" in one["last_error"]["says"]
        assert one["kept_until"] - one["fetched"] == pytest.approx(86400)
        text = asked(tmp_path)
        assert text.returncode == 1
        assert "KEPT through an outage, given up at" in text.stdout
        provider.control(mode="ok")
        one, _ = sets(daemon, lambda found: found[0]["state"] == "fresh")
        assert one["failures"] == 0
        assert one["last_error"] is not None


def test_no_keys_yet(tmp_path: Path, upstream: Upstream) -> None:
    """An issuer whose keys could never be had is shown without any, with the reason."""
    with issuer() as provider:
        provider.control(mode="error")
        with gateway(tmp_path, upstream, rest=section(provider)) as daemon:
            one, _ = sets(daemon, lambda found: found[0]["last_error"] is not None)
            assert (one["state"], one["keys"], one["fetched"], one["age"]) == ("none", [], None, None)
            assert "NO KEYS   its tokens get 503" in asked(tmp_path).stdout


def test_two_workers(tmp_path: Path, upstream: Upstream) -> None:
    """Each worker's own sets are shown; one that was killed is shown no more, its successor is."""
    with issuer() as provider, gateway(tmp_path, upstream, gateway="workers = 2", rest=section(provider)) as daemon:
        found = sets(daemon, lambda found: len(found) == 4 and all(each.get("state", "fresh") == "fresh" for each in found))
        assert [each["worker"] for each in found] == [1, 1, 2, 2]
        killed = found[2]["pid"]
        os.kill(killed, signal.SIGKILL)
        found = sets(daemon, lambda found: len(found) == 4 and killed not in {each["pid"] for each in found})
        assert [each["worker"] for each in found] == [1, 1, 2, 2]
        assert len({each["pid"] for each in found}) == 2
    assert list(tmp_path.glob("gateway-keys.*")) == []


def test_no_gateway(tmp_path: Path, upstream: Upstream) -> None:
    """Where none runs that is said; what one has left that was killed is not shown, and goes when the next one starts."""
    with gateway(tmp_path, upstream) as daemon:
        sets(daemon, lambda found: len(found) == 1)
        text = daemon.ini.read_text()
        daemon.process.kill()
        daemon.process.wait()
        left = list(tmp_path.glob("gateway-keys.*.json"))
        assert len(left) == 1
        found = asked(tmp_path)
        assert found.returncode == 1
        assert found.stdout.startswith("no gateway gateway runs here")
        daemon.process = Daemon(tmp_path, text, daemon.port).process
        sets(daemon, lambda found: len(found) == 1)
        assert not left[0].exists()


def test_a_local_key_and_api_keys(tmp_path: Path, upstream: Upstream) -> None:
    """The key of [jwt] has its file and age, and another generation after a reload; the file of API keys the number of keys, and that it has gone."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "keys").write_text("")
    with gateway(tmp_path, upstream, rest="[apikeys]\nfile = keys\n") as daemon:
        text = daemon.ini.read_text().replace("secret = ${JWT_SECRET}", "secret_file = secret")
        daemon.reload(text)
        sets(daemon, lambda found: found[0]["source"] == str(tmp_path / "secret"))
        (tmp_path / "secret").write_text("another secret of more than 32 bytes")
        assert "what it holds now counts after a reload" in asked(tmp_path).stdout
        daemon.reload()
        local, keys = sets(daemon, lambda found: found[0]["generation"] == 2)
        assert (local["file_newer"], keys["count"], keys["problem"]) == (False, 0, "")
        (tmp_path / "keys").unlink()
        _, keys = sets(daemon, lambda found: found[1]["problem"] != "")
        assert keys["problem"] == f"{tmp_path}/keys is gone"
        assert asked(tmp_path).returncode == 1
