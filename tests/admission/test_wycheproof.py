"""
Project Wycheproof's published JOSE vectors, through the verifier that serves, where our algorithms apply.

The vectors are not in this repository: C{json_web_signature_test.json} and C{json_web_key_test.json} of testvectors_v1
(C2SP/wycheproof, Apache License 2.0) are read from the folder that C{WYCHEPROOF} names, by default C{tests/wycheproof};
where they are missing these tests are skipped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.admission.tokens import INVALID, VerifiedToken, Verifier
from gateway.jose import json_object, unbase64
from gateway.jwks import key_ring
from gateway.keys import FAMILIES, VerificationKey, hmac_key

FOLDER = Path(os.environ.get("WYCHEPROOF", Path(__file__).parents[1] / "wycheproof"))
PUBLIC = [name for name, family in FAMILIES.items() if family != "HMAC"]

SIGNATURE, KEY = FILES = ("json_web_signature_test", "json_web_key_test")

#: Vectors that are called valid and that we refuse, by file and number; and why.
STRICTER = {
    (SIGNATURE, 346): "PS384, but the key's own alg is PS256: it is bound to that",
    (SIGNATURE, 347): "the key's alg is ES521, which there is not (RFC 7518 calls it ES512)",
    (SIGNATURE, 350): "as 346",
    (SIGNATURE, 351): "as 347",
    (SIGNATURE, 372): "a ? in the header's base64",
    (SIGNATURE, 373): "a ? in the payload's base64",
    (KEY, 2): "a set of shared secrets: no issuer may publish those",
}

#: Vectors that are called invalid and are, byte for byte, one that is called valid, with the same key: the padding
#: that they speak of is not in them.
SAME = {(SIGNATURE, 367): 357, (SIGNATURE, 370): 357}


def groups(name: str) -> list[dict[str, Any]]:
    """The groups of a file."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    found: list[dict[str, Any]] = json.loads(path.read_text())["testGroups"]
    return found


def keys_of(group: dict[str, Any], algorithm: str) -> list[VerificationKey]:
    """The group's keys as a configuration that allows the token's algorithm loads them; none: all are refused."""
    given = group.get("public") or group["private"]
    jwks = given.get("keys", [given])
    try:
        if len(jwks) == 1 and jwks[0].get("kty") == "oct":  # a secret, as [jwt] has one
            if jwks[0].get("alg", algorithm) != algorithm:
                return []
            return [hmac_key(unbase64(jwks[0].get("k", "").encode()) or b"", [algorithm])]
        ring = key_ring(json.dumps({"keys": jwks}).encode(), PUBLIC)
    except ValueError:
        return []
    return [key.key for key in ring.keys]


def verdict(group: dict[str, Any], test: dict[str, Any]) -> str:
    """What we say of a token: C{valid}, C{payload} (a good signature over what are no claims), or C{refused}."""
    jws = test["jws"]
    if not isinstance(jws, str):
        return "refused"  # JSON serialization is no bearer token
    raw = jws.encode("utf-8", "surrogatepass")
    header = json_object(unbase64(raw.partition(b".")[0])) or {}
    algorithm = header.get("alg")
    for key in keys_of(group, algorithm if isinstance(algorithm, str) else ""):
        found = Verifier(key).verify(raw)
        if isinstance(found, VerifiedToken):
            return "valid"
        signature = unbase64(raw.rpartition(b".")[2])
        good = found is INVALID and signature is not None and key.verify(algorithm, raw.rpartition(b".")[0], signature)
        payload = raw.split(b".")[1] if good else b"."
        if (not payload or unbase64(payload) is not None) and json_object(unbase64(payload)) is None:
            return "payload"
    return "refused"


@pytest.mark.parametrize("name", FILES)
def test_vectors(name: str) -> None:
    """No vector that is called invalid passes; each that is called valid does, save those that are listed with their reason."""
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    every = {test["tcId"]: test for group in groups(name) for test in group["tests"]}
    for group in groups(name):
        for test in group["tests"]:
            found, number = verdict(group, test), (name, test["tcId"])
            counts[test["result"], found] += 1
            if number in SAME:
                assert test["jws"] == every[SAME[number]]["jws"]
                continue
            if (found != "refused") != (test["result"] == "valid" and number not in STRICTER):
                wrong.append((test["tcId"], group["comment"], test["comment"], test["result"], found))
    assert wrong == [], counts
    assert counts["valid", "payload"] >= 4
