"""Tests for [apikeys], [dpop] and [mtls]: what is told of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import effective
from gateway.settings import Settings, SettingsError, parse

BASE = "[jwt]\nsecret = " + "s" * 40 + "\n[route /a]\nupstream = http://127.0.0.1:1\n"
PUBLIC = """[jwt]
algorithms = EdDSA
public_key_file = key.pem
[route /a]
upstream = http://127.0.0.1:1
"""
PEM = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


def settings(text: str, folder: Path | str = ".", base: str = BASE) -> Settings:
    """The file with these sections."""
    return parse(f"{text}\n{base}", {}, directory=str(folder))


def problems(text: str, folder: Path | str = ".", base: str = BASE) -> str:
    """What is wrong with it."""
    with pytest.raises(SettingsError) as error:
        settings(text, folder, base)
    return str(error.value)


def test_what_a_route_takes_is_read_aloud(tmp_path: Path) -> None:
    """Gateway check says which credentials each route takes, and what must come with them."""
    (tmp_path / "keys.txt").write_text("")
    (tmp_path / "keys.txt").chmod(0o600)
    found = settings(
        "[apikeys]\nfile = keys.txt\n[dpop]\nmode = accept\n[route /k]\nupstream = http://127.0.0.1:1\nauth = apikey\n"
        "[route /d]\nupstream = http://127.0.0.1:1\ndpop.mode = require\n", tmp_path,
    )  # fmt: skip
    said = [line for line in effective(found).splitlines() if "requires" in line]
    assert said == [
        "  requires  an API key in X-API-Key; exp",
        "  requires  a valid token (HS256) with a DPoP proof; exp",
        "  requires  a valid token (HS256), with a DPoP proof if it is bound or an API key in X-API-Key; exp",
    ]


def test_loosened() -> None:
    """A route that asks for less than the common section is told of."""
    found = settings("[dpop]\nmode = require\n", base=BASE + "dpop.mode = accept\n")
    assert found.routes[0].loosened == ("tokens pass without a DPoP proof",)
    assert settings("[dpop]\nmode = accept\n", base=BASE + "dpop.mode = require\n").routes[0].loosened == ()


def test_nonces_need_a_secret(tmp_path: Path) -> None:
    """Nonces are made of [jwt] secret, or of one of their own, which is long and never shown."""
    (tmp_path / "key.pem").write_bytes(PEM)
    made = settings("[dpop]\nnonce = yes").dpop.nonce_secret
    assert made is not None
    assert made.reveal() == b"s" * 40
    assert "[dpop] nonce_secret: missing" in problems("[dpop]\nnonce = yes", tmp_path, PUBLIC)
    own = settings("[dpop]\nnonce = yes\nnonce_secret = " + "n" * 32, tmp_path, PUBLIC)
    assert own.dpop.nonce_secret is not None
    assert "nnn" not in repr(own)
    found = problems("[dpop]\nnonce_secret = hunter2")
    assert "has 7 bytes; expected at least 32" in found
    assert "hunter2" not in found


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-User-ID", "DPoP", "Client-Cert", "Host"])
def test_a_key_s_field_is_its_own(name: str) -> None:
    """Keys can't come in a field that means something else."""
    assert "means something else" in problems(f"[apikeys]\nheader = {name}")


@pytest.mark.parametrize("text", ["[dpop]\nalgorithms = HS256", "[dpop]\nalgorithms = none", "[dpop]\nlifetime = 0s", "[mtls]\nmode = maybe"])
def test_values_that_are_refused(text: str) -> None:
    """No symmetric proofs, no proofs without an end, no guesses."""
    assert "expected" in problems(text)


def test_options_that_hold_for_all() -> None:
    """A route chooses the mode; whose keys and certificates are believed holds for all."""
    assert "holds for all" in problems("", base=BASE + "mtls.ca_file = x\n")
    assert "unknown option" in problems("", base=BASE + "apikeys.file = x\n") or "holds for all" in problems("", base=BASE + "apikeys.file = x\n")


@pytest.mark.parametrize("option", ["auth = apikey", "mtls.mode = require", "dpop.mode = require"])
def test_a_public_route_asks_nobody(option: str) -> None:
    """A route that is public can't seem to ask for a proof."""
    assert "public = yes asks nobody" in problems("", base=f"{BASE}public = yes\n{option}\n")


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    """A file of keys that others can read, or that is not there yet, is warned of."""
    assert "gateway key add makes it" in settings("[apikeys]\nfile = keys.txt", tmp_path).warnings[0]
    (tmp_path / "keys.txt").write_text("")
    (tmp_path / "keys.txt").chmod(0o644)
    assert "can be read by others" in settings("[apikeys]\nfile = keys.txt", tmp_path).warnings[0]
