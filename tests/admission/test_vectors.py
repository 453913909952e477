"""
Published examples: RFC 7515 appendices A and E, RFC 7519, RFC 8037; the essential cases of the
Wycheproof project's JOSE vectors, and all of them where a copy is at hand (WYCHEPROOF names the
folder testvectors_v1 of https://github.com/C2SP/wycheproof).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.admission.tokens import VerifiedToken, Verifier
from gateway.jose import json_object, unbase64
from gateway.jwks import key_ring, named_key
from gateway.keys import FAMILIES, VerificationKey, hmac_key
from gateway.verdicts import Reason, Refused
from tests.admission.test_rfc8725 import part
from tests.system.issuer import public_jwk

PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
CLAIMS = {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
PUBLIC = [name for name, family in FAMILIES.items() if family != "HMAC"]

#: RFC 7515 appendix A.1, which is also RFC 7519 section 3.1.
A1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
A1 = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

#: RFC 7515 appendices A.2 and A.3.
PUBLISHED = {
    "RS256": (
        {
            "kty": "RSA", "e": "AQAB",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs"
                 "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV"
                 "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        },
        f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5"
        "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"
        "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    "ES256": (
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
}  # fmt: skip

#: RFC 7515 appendix A.4 and RFC 8037 appendix A.4, whose payloads are no claims.
SIGNED = {
    "ES512": (
        {
            "kty": "EC", "crv": "P-521",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        },
        "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7Xdt"
        "AG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
    ),
    "EdDSA": (
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5B"
        "hVsPt9g7sVvpAr_MuM0KAg",
    ),
}  # fmt: skip


def verified(key: VerificationKey, token: str) -> VerifiedToken | Reason:
    """The token, or why not."""
    found = Verifier(key).verify(token.encode())
    return found.reason if isinstance(found, Refused) else found


def published(jwk: dict[str, Any]) -> VerificationKey:
    """A public key of an RFC."""
    return key_ring(json.dumps({"keys": [jwk]}).encode(), PUBLIC).keys[0].key


def test_rfc_7515_a_1() -> None:
    """RFC 7515 A.1 and RFC 7519 3.1: the HS256 example, with its line breaks in the JSON."""
    secret = unbase64(A1_KEY.encode())
    assert secret is not None
    found = verified(hmac_key(secret, ["HS256"]), A1)
    assert isinstance(found, VerifiedToken)
    assert found.claims == CLAIMS
    assert verified(hmac_key(secret[::-1], ["HS256"]), A1) is Reason.SIGNATURE


@pytest.mark.parametrize("algorithm", PUBLISHED)
def test_rfc_7515_a_2_and_a_3(algorithm: str) -> None:
    """RFC 7515 A.2 and A.3: the RS256 and the ES256 example."""
    jwk, token = PUBLISHED[algorithm]
    found = verified(published(jwk), token)
    assert isinstance(found, VerifiedToken)
    assert found.claims == CLAIMS


@pytest.mark.parametrize("algorithm", SIGNED)
def test_rfc_7515_a_4_and_rfc_8037_a_4(algorithm: str) -> None:
    """RFC 7515 A.4 and RFC 8037 A.4: the signature is right, and the payload is no claims."""
    jwk, token = SIGNED[algorithm]
    assert verified(published(jwk), token) is Reason.TOKEN
    assert verified(published(jwk), token[:-8] + "A" * 8) in (Reason.SIGNATURE, Reason.TOKEN)
    signed, _, signature = token.encode().rpartition(b".")
    data = unbase64(signature)
    assert data is not None
    assert published(jwk).verify(algorithm, signed, data)
    assert not published(jwk).verify(algorithm, signed, data[:-1] + bytes((data[-1] ^ 1,)))


def test_rfc_7515_a_5_and_rfc_7519_6_1() -> None:
    """RFC 7515 A.5 and RFC 7519 6.1: an unsecured token is refused."""
    token = f"eyJhbGciOiJub25lIn0.{PAYLOAD}."
    for key in (hmac_key(b"k" * 32, ["HS256"]), published(PUBLISHED["RS256"][0])):
        assert verified(key, token) is Reason.SIGNATURE


def test_rfc_7515_a_6_and_a_7() -> None:
    """RFC 7515 A.6 and A.7: JSON serializations are no tokens."""
    jwk, token = PUBLISHED["ES256"]
    head, payload, signature = token.split(".")
    flattened = {"payload": payload, "protected": head, "header": {"kid": "e9bc097a"}, "signature": signature}
    for text in (flattened, {"payload": payload, "signatures": [flattened]}):
        assert verified(published(jwk), json.dumps(text)) is Reason.TOKEN


def test_rfc_7515_e() -> None:
    """RFC 7515 E: a critical extension that nobody understands is refused, rightly signed or not."""
    head = part({"alg": "HS256", "crit": ["http://example.com/UNDEFINED"], "http://example.com/UNDEFINED": True})
    text = head + b"." + PAYLOAD.encode()
    tool = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    token = (text + b"." + part(tool.sign(text, b"k" * 32))).decode()
    assert verified(hmac_key(b"k" * 32, ["HS256"]), token) is Reason.TOKEN


P256 = ec.generate_private_key(ec.SECP256R1())
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("numbers", [(0, 0), (0, 1), (1, 0), (ORDER, ORDER), (ORDER, 1), (1, ORDER + 1), (2**256 - 1, 2**256 - 1)])
def test_wycheproof_ecdsa_edges(numbers: tuple[int, int]) -> None:
    """Wycheproof: signatures of zero and of the curve's order are refused (CVE-2022-21449, psychic signatures)."""
    key = published(public_jwk(P256, "ES256"))
    assert not key.verify("ES256", b"text", b"".join(number.to_bytes(32) for number in numbers))


def test_wycheproof_ecdsa_encodings() -> None:
    """Wycheproof: an ECDSA signature has one length; DER, padding, or numbers beyond the order make no second spelling."""
    key = published(public_jwk(P256, "ES256"))
    der = P256.sign(b"text", ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    good = r.to_bytes(32) + s.to_bytes(32)
    assert key.verify("ES256", b"text", good)
    for other in (der, good + b"\0", good[:-1], b"\0" + good, r.to_bytes(33) + s.to_bytes(33), r.to_bytes(33) + s.to_bytes(31, "little") if s < 1 << 248 else b"", b""):
        assert not key.verify("ES256", b"text", other)


def test_wycheproof_pkcs1_padding() -> None:
    """Wycheproof: a signature whose PKCS #1 padding was changed is refused, whichever byte it is (Bleichenbacher 2006)."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key = published(public_jwk(private, "RS256"))
    numbers = private.private_numbers()
    modulus = numbers.public_numbers.n
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"text")
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest.finalize()
    no_null = bytes.fromhex("302f300b0609608648016503040201" + "0420") + info[-32:]

    def forged(block: bytes) -> bytes:
        return pow(int.from_bytes(block), numbers.d, modulus).to_bytes(256)

    def padded(inner: bytes, kind: bytes = b"\x01", fill: bytes = b"\xff", behind: bytes = b"") -> bytes:
        return b"\x00" + kind + fill * (253 - len(inner) - len(behind)) + b"\x00" + inner + behind

    assert key.verify("RS256", b"text", forged(padded(info)))
    for block in (
        padded(info, kind=b"\x02"), padded(info, fill=b"\xfe"), padded(info, behind=b"\0" * 64), padded(no_null), padded(info[-32:]),
        b"\x00\x01" + b"\xff" * 8 + b"\x00" + info + b"\0" * (256 - 11 - len(info)),
    ):  # fmt: skip
        assert not key.verify("RS256", b"text", forged(block))
    good = forged(padded(info))
    for other in (good + b"\0", b"\0" + good, good[:-1], (int.from_bytes(good) + modulus).to_bytes(257)):
        assert not key.verify("RS256", b"text", other)


def wycheproof(name: str) -> list[dict[str, Any]]:
    """The groups of a file of vectors, if there is a copy."""
    folder = os.environ.get("WYCHEPROOF")
    if folder is None:
        return []
    groups: list[dict[str, Any]] = json.loads((Path(folder) / name).read_text())["testGroups"]
    return groups


#: Valid to Wycheproof and refused here: another algorithm than the key's own, and characters
#: outside base64url that a lenient reader skips.
STRICTER = {346, 347, 350, 351, 372, 373}

#: Invalid to Wycheproof, for a padding that its file has lost: byte for byte they are 357, valid.
SPOILT = {367, 370}


def test_wycheproof_signatures() -> None:
    """Wycheproof: every published JWS that is valid verifies, every other does not, but for six that are refused on purpose and two that are spoilt."""
    wrong = {
        test["tcId"]
        for group in wycheproof("json_web_signature_test.json")
        for test in group["tests"]
        if accepted(group.get("public") or group["private"], test["jws"]) != (test["result"] == "valid")
    }
    assert wrong == (STRICTER | SPOILT if "WYCHEPROOF" in os.environ else set())


def accepted(jwk: dict[str, Any], jws: object) -> bool:
    """Whether the signature is right and the parts are spelt canonically; what they say is no claims."""
    try:
        if jwk["kty"] == "oct":
            key = hmac_key(unbase64(jwk["k"].encode()) or b"", [jwk["alg"]])
        else:
            named = named_key({name: value for name, value in jwk.items() if name != "d"}, PUBLIC)
            if named is None:
                return False
            key = named.key
    except ValueError:
        return False
    parts = jws.encode().split(b".") if isinstance(jws, str) else []
    if len(parts) != 3:
        return False
    header, payload, signature = json_object(unbase64(parts[0])), unbase64(parts[1] or b"AA"), unbase64(parts[2])
    if header is None or payload is None or signature is None:
        return False
    verdict = Verifier(key).verify(b".".join(parts))
    good = key.verify(header.get("alg"), b".".join(parts[:2]), signature)
    assert good or isinstance(verdict, Refused)
    return good
