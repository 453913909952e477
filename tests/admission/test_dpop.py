"""Tests for gateway.admission.dpop: the published examples of RFC 9449 and 7638, and every way a proof is wrong."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.dpop import MAX_PROOF, Nonces, Proof, ProofRules, thumbprint
from gateway.verdicts import Reason, Refused
from tests.admission.proofs import Sender, token_hash

#: RFC 9449 section 7.1, figure 12, and the token of it.
EXAMPLE = (
    b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    b"RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJq"
    b"dGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNv"
    b"dXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqz"
    b"hrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
EXAMPLE_TOKEN = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
#: RFC 9449 section 4.2, figure 2: for the token endpoint, so without ath.
WITHOUT_ATH = (
    b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    b"RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJq"
    b"dGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0Ijox"
    b"NTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)

TARGET = (b"https", b"api.example", b"/v1/orders")
HTU = "https://api.example/v1/orders"
TOKEN = b"aaa.bbb.ccc"
NOW = 1_700_000_000.0
ALL = ("ES256", "ES384", "EdDSA", "PS256", "RS256")

sender = Sender()


def rules(**more: Any) -> ProofRules:
    """Rules with the defaults."""
    return ProofRules(more.pop("algorithms", ALL), **more)


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a right proof; C{None} leaves one out."""
    found = {"jti": "one", "htm": "GET", "htu": HTU, "iat": NOW, "ath": token_hash(TOKEN), **changed}
    return {name: value for name, value in found.items() if value is not None}


def check(proof: bytes, found: ProofRules | None = None, now: float = NOW) -> Proof | Refused:
    """Look at a proof as one of the common request."""
    return (found or rules()).check(proof, b"GET", TARGET, TOKEN, now)


def test_published_example() -> None:
    """The example of RFC 9449 section 7.1 passes at its time, for its request and token, and for no other."""
    target = (b"https", b"resource.example.org", b"/protectedresource")
    found = rules().check(EXAMPLE, b"GET", target, EXAMPLE_TOKEN, 1562262618.0)
    assert isinstance(found, Proof)
    assert found.jkt == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    assert isinstance(rules().check(EXAMPLE, b"POST", target, EXAMPLE_TOKEN, 1562262618.0), Refused)
    assert isinstance(rules().check(EXAMPLE, b"GET", target, EXAMPLE_TOKEN + b"x", 1562262618.0), Refused)
    assert isinstance(rules().check(EXAMPLE, b"GET", target, EXAMPLE_TOKEN, 1562262618.0 + 60), Refused)


def test_published_example_for_a_token_endpoint() -> None:
    """A proof without ath, such as the example of section 4.2, is good for no request with a token."""
    target = (b"https", b"server.example.com", b"/token")
    assert isinstance(rules().check(WITHOUT_ATH, b"POST", target, EXAMPLE_TOKEN, 1562262616.0), Refused)


def test_published_thumbprint() -> None:
    """RFC 7638 section 3.1: the RSA key's name; members that are not needed change nothing."""
    jwk = {
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6"
        "qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJ"
        "zKnqDKgw",
    }  # fmt: skip
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("algorithm", ALL)
def test_each_algorithm(algorithm: str) -> None:
    """A right proof passes with every algorithm that is allowed, and with none that is not."""
    other = Sender(algorithm)
    found = check(other.proof(claims()))
    assert isinstance(found, Proof)
    assert found.jkt == other.jkt
    rest = tuple(name for name in ALL if name != algorithm)
    assert isinstance(check(other.proof(claims()), rules(algorithms=rest)), Refused)


@pytest.mark.parametrize(
    "changed",
    [
        {"jti": None}, {"jti": ""}, {"jti": 7}, {"jti": "x" * 513}, {"htm": None}, {"htm": "POST"}, {"htm": "get"},
        {"htu": None}, {"htu": ["x"]}, {"htu": "https://api.example/v1/orders/7"}, {"htu": "http://api.example/v1/orders"},
        {"htu": "https://evil.example/v1/orders"}, {"htu": "https://api.example:8443/v1/orders"}, {"htu": "/v1/orders"},
        {"htu": "https://api.example@evil.example/v1/orders"}, {"iat": None}, {"iat": "1700000000"}, {"iat": True},
        {"iat": NOW - 60}, {"iat": NOW + 5.1}, {"iat": 1e400}, {"iat": 10**400}, {"ath": None}, {"ath": token_hash(b"other")},
        {"ath": 5}, {"ath": ""},
    ],
)  # fmt: skip
def test_claims_that_are_wrong(changed: dict[str, Any]) -> None:
    """A proof that was made for another request, token or time, or lacks a claim, is refused."""
    found = check(sender.proof(claims(**changed)))
    assert isinstance(found, Refused)
    assert found.reason is Reason.PROOF
    assert b'error="invalid_dpop_proof"' in found.lines
    assert b'algs="ES256 ES384 EdDSA PS256 RS256"' in found.lines


@pytest.mark.parametrize(
    "changed",
    [
        {"typ": "JWT"}, {"typ": None}, {"typ": "DPOP+JWT"}, {"alg": "none"}, {"alg": "HS256"}, {"alg": None}, {"alg": ["ES256"]},
        {"jwk": None}, {"jwk": "x"}, {"jwk": {"kty": "EC"}}, {"jwk": {"kty": "oct", "k": "AAAA"}}, {"crit": ["exp"]},
        {"b64": False}, {"zip": "DEF"}, {"alg": "ES384"},
    ],
)  # fmt: skip
def test_headers_that_are_wrong(changed: dict[str, Any]) -> None:
    """A proof of another type, with no asymmetric key of its own, or with what could change its meaning, is refused."""
    assert isinstance(check(sender.proof(claims(), **changed)), Refused)


def test_a_private_key_in_the_header() -> None:
    """Who shows the private key proves nothing (RFC 9449 section 4.3, 7)."""
    jwk = {**sender.jwk, "d": urlsafe_b64encode(b"x" * 32).decode().rstrip("=")}
    assert isinstance(check(sender.proof(claims(), jwk=jwk)), Refused)


def test_another_key_than_the_signature_s() -> None:
    """The signature must be the shown key's."""
    assert isinstance(check(sender.proof(claims(), jwk=Sender().jwk)), Refused)


def test_changed_on_the_way() -> None:
    """A proof whose payload or signature has been touched is refused, also after its key is known."""
    found = rules()
    proof = sender.proof(claims())
    assert isinstance(check(proof, found), Proof)
    head, body, signature = proof.split(b".")
    other = sender.proof(claims(jti="two")).split(b".")[1]
    assert isinstance(check(b".".join((head, other, signature)), found), Refused)
    assert isinstance(check(b".".join((head, body, signature[:-4] + b"AAAA")), found), Refused)
    assert isinstance(check(b".".join((head, body, b"")), found), Refused)


def test_members_named_twice() -> None:
    """A payload that two readers could read differently is refused although its signature is right."""
    text = json.dumps(claims())[:-1] + ', "htm": "GET"}'
    assert isinstance(check(sender.sign(text.encode())), Refused)


@given(st.binary(max_size=300) | st.text(alphabet="eyJ.=_-Aa0", max_size=60).map(str.encode))
def test_any_bytes(raw: bytes) -> None:
    """Whatever the bytes are, they are refused and nothing breaks."""
    assert isinstance(check(raw), Refused)


def test_a_giant() -> None:
    """A proof of more than 8 KiB is not looked at."""
    proof = sender.proof(claims(more="x" * MAX_PROOF))
    assert isinstance(check(proof), Refused)


def test_replay_keys() -> None:
    """What must not come twice: one key's jti; another key's same jti is another proof."""
    def key(proof: bytes) -> str:
        found = check(proof)
        assert isinstance(found, Proof)
        return found.replay_key

    one = key(sender.proof(claims()))
    assert one == key(sender.proof(claims(iat=NOW - 1)))
    assert one != key(sender.proof(claims(jti="two")))
    assert one != key(Sender().proof(claims()))


@given(st.floats(-120, 120))
def test_the_window_of_iat(off: float) -> None:
    """A proof is good from leeway before its time until lifetime after it, and never beyond."""
    found = check(sender.proof(claims(iat=NOW + off)))
    assert isinstance(found, Proof) == (NOW - 60 < NOW + off <= NOW + 5)


def test_nonces() -> None:
    """Without a nonce, or with an old or invented one, the client is told the current one; with it, it passes."""
    nonces = Nonces(b"s" * 32, 300.0)
    asked = rules(nonces=nonces)
    refused = check(sender.proof(claims()), asked)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.PROOF_NONCE
    assert b'error="use_dpop_nonce"' in refused.lines
    nonce = refused.lines.split(b"DPoP-Nonce: ")[1].strip().decode()
    assert nonce == nonces.current(NOW)
    found = check(sender.proof(claims(nonce=nonce)), asked)
    assert isinstance(found, Proof)
    assert not found.old_nonce
    later = check(sender.proof(claims(nonce=nonce, iat=NOW + 300)), asked, NOW + 300)
    assert isinstance(later, Proof)
    assert later.old_nonce
    assert isinstance(check(sender.proof(claims(nonce=nonce, iat=NOW + 600)), asked, NOW + 600), Refused)
    assert isinstance(check(sender.proof(claims(nonce=nonce + "A")), asked), Refused)
    assert isinstance(check(sender.proof(claims(nonce=7)), asked), Refused)


@given(st.binary(min_size=32, max_size=40), st.floats(0, 2e9), st.floats(0, 1200))
def test_nonces_age(secret: bytes, now: float, later: float) -> None:
    """A nonce is good for one to two lifetimes, on every machine that has the secret, and not on others."""
    nonce = Nonces(secret, 300.0).current(now)
    age = Nonces(secret, 300.0).age(nonce, now + later)
    periods = int((now + later) // 300) - int(now // 300)
    assert age == (periods if periods <= 1 else None)
    assert Nonces(secret + b"x", 300.0).age(nonce, now) is None
    assert secret.hex() not in repr(Nonces(secret, 300.0))


def test_keys_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of many clients don't pile up."""
    monkeypatch.setattr("gateway.admission.dpop._MEMO", 3)
    found = rules()
    make: Callable[[], Sender] = Sender
    for _ in range(8):
        assert isinstance(check(make().proof(claims()), found), Proof)
    assert len(found._known) <= 3
