"""The keys of assertions: which are taken, what is published, where one is kept."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from gateway.assertion.keys import generate, kept, published, signing_keys


def pem(key: object, password: bytes | None = None) -> bytes:
    """As a file holds it."""
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)  # type: ignore[attr-defined,no-any-return]


EDWARDS = pem(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize(("text", "algorithm"), [(generate(), "ES256"), (EDWARDS, "EdDSA")])
def test_what_is_signed_is_verified_with_what_is_published(text: bytes, algorithm: str) -> None:
    """Two hundred signatures of a key are good for anybody who has only its published half."""
    key = signing_keys(text)[0]
    found = json.loads(published((key,)))["keys"][0]
    assert (found["alg"], found["kid"], found["use"]) == (algorithm, key.kid, "sig")
    assert "d" not in found
    checker = ECAlgorithm(ECAlgorithm.SHA256) if algorithm == "ES256" else OKPAlgorithm()
    public = checker.from_jwk(json.dumps(found))
    for number in range(200):
        data = b"%d" % number
        assert checker.verify(data, public, key.sign(data))
        assert not checker.verify(data + b"x", public, key.sign(data))


def test_names_are_thumbprints() -> None:
    """RFC 8037 appendix A.3: the name of that key is the standard's own."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(
        jwt.utils.base64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    )
    assert signing_keys(pem(private))[0].kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_several_keys() -> None:
    """The first key of a file signs, all are published, each once."""
    one, other = generate(), EDWARDS
    keys = signing_keys(one + b"# the old one\n" + other + one)
    assert [key.kid for key in keys] == [signing_keys(one)[0].kid, signing_keys(other)[0].kid]
    assert len(json.loads(published(keys))["keys"]) == 2
    assert json.loads(published(())) == {"keys": []}


@pytest.mark.parametrize(("text", "says"), [
    (b"", "no private key"),
    (pem(rsa.generate_private_key(65537, 2048)), "another kind"),
    (pem(ec.generate_private_key(ec.SECP384R1())), "another kind"),
    (pem(ed448.Ed448PrivateKey.generate()), "another kind"),
    (pem(ec.generate_private_key(ec.SECP256R1()), b"word"), "without a password"),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "without a password"),
    (b"".join(generate() for _ in range(9)), "more than 8"),
])  # fmt: skip
def test_keys_that_are_refused(text: bytes, says: str) -> None:
    """Keys of another kind, with a password, too many or none are told apart."""
    with pytest.raises(ValueError, match=says):
        signing_keys(text)


def test_a_key_never_shows_itself() -> None:
    """Nothing of a key is in its repr."""
    assert "sign" not in repr(signing_keys(EDWARDS)[0])


def test_a_generated_key_is_kept(tmp_path: Path) -> None:
    """It is made once, for its owner alone, and read from then on; nothing else is left there."""
    path = tmp_path / "key.pem"
    first = kept(str(path))
    assert kept(str(path)) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_workers_that_start_at_once_agree(tmp_path: Path) -> None:
    """Whoever makes the key at the same time gets the same one."""
    path = str(tmp_path / "key.pem")
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: kept(path), range(8)))
    assert len(found) == 1
    assert len(list(tmp_path.iterdir())) == 1
