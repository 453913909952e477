"""
The attacks of RFC 8725 (JSON Web Token Best Current Practices), each by its section's name, on
a gateway with a local key and two issuers; and those of RFC 7515 on tokens in odd spellings.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as ser
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.identity import Identity, IdentityRules, IssuersRules
from gateway.admission.issuers import Issuer, Issuers
from gateway.admission.keysets import KeySet, Pace
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Unsettled, VerifiedToken, Verifier
from gateway.jwks import key_ring
from gateway.keys import hmac_key
from gateway.verdicts import Reason, Refused
from tests.system.issuer import private_key, public_jwk

A, B = "https://a.example", "https://b.example"
SECRET = b"s" * 32
KEYS = {A: private_key("RS256"), B: private_key("ES256")}
ALGORITHM = {A: "RS256", B: "ES256"}
CLAIMS = {"sub": "alice", "exp": 2000, "aud": "api"}
NOW = 1000.0


def asked(_raw: bytes, _waited: float) -> Any:
    """Nobody waits here."""
    raise AssertionError("nobody was to be asked")


def issuer(name: str, iss: str, *, kid: str | None = "k", algorithms: tuple[str, ...] = ("RS256", "ES256")) -> Issuer:
    """An issuer whose one key is known."""
    keys = KeySet(Pace())
    jwk = public_jwk(KEYS[iss], ALGORITHM[iss], kid=kid)
    keys.succeeded(key_ring(json.dumps({"keys": [jwk]}).encode(), algorithms), None, 0.0, 0.0)
    return Issuer(name, iss, algorithms, ("at+jwt", "jwt"), keys, asked)


VERIFIER = Issuers([issuer("a", A), issuer("b", B)], Verifier(hmac_key(SECRET, ["HS256"])))
RULES = IssuersRules(
    {"": IdentityRules(), "a": IdentityRules(issuer=A, audience="api"), "b": IdentityRules(issuer=B, audience="api", role_lists=True)}
)


def part(data: bytes | dict[str, object]) -> bytes:
    """A part of a token."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def signed(iss: str = A, claims: bytes | dict[str, object] | None = None, key: Any = None, alg: str = "", **header: object) -> bytes:
    """A token of A or B, rightly signed unless another key is given."""
    algorithm = alg or ALGORITHM[iss]
    fields = {"alg": algorithm, "kid": "k", **header}
    fields = {name: value for name, value in fields.items() if value is not ...}
    text = part(fields) + b"." + part({"iss": iss, **CLAIMS} if claims is None else claims)
    tool = jwt.get_algorithm_by_name(algorithm)
    return text + b"." + part(tool.sign(text, tool.prepare_key(key if key is not None else KEYS[iss])))


def verdict(raw: bytes, verifier: Any = VERIFIER, rules: Any = RULES) -> str | Reason:
    """The user's name, or why not."""
    found = TokenCache(verifier, 10, 1 << 20).identify(raw, rules, NOW)
    if isinstance(found, Identity):
        return found.user
    assert isinstance(found, Refused), found
    return found.reason


def test_good_tokens() -> None:
    """Tokens of both issuers and of the local key pass, each verified with its own key."""
    assert verdict(signed(A)) == "alice"
    assert verdict(signed(B)) == "alice"
    assert verdict(jwt.encode(CLAIMS, SECRET, "HS256").encode()) == "alice"


@pytest.mark.parametrize("alg", ["none", "nOnE", "NONE", "", None, ["RS256"], 7])
@pytest.mark.parametrize("iss", [A, B])
def test_2_1_algorithm_none(iss: str, alg: object) -> None:
    """Section 2.1: an unsigned token is refused, and one that calls its signature none."""
    head = part({"alg": alg, "kid": "k"}) + b"." + part({"iss": iss, **CLAIMS})
    assert verdict(head + b".") is Reason.SIGNATURE
    assert verdict(head + b"." + signed(iss).rpartition(b".")[2]) is Reason.SIGNATURE


def test_2_1_key_confusion() -> None:
    """Section 2.1: a public key, in any of its spellings, is no HMAC secret."""
    public = KEYS[A].public_key()
    forms = [
        public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.PKCS1),
        json.dumps(public_jwk(KEYS[A], "RS256", kid="k")).encode(),
        public_jwk(KEYS[A], "RS256")["n"].encode(),
        b"",
    ]
    tool = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    for secret in forms:
        text = part({"alg": "HS256", "kid": "k"}) + b"." + part({"iss": A, **CLAIMS})
        assert verdict(text + b"." + part(tool.sign(text, secret))) is Reason.SIGNATURE


def test_2_1_an_issuer_may_not_use_the_local_key() -> None:
    """Section 2.1: an issuer's token that was signed with the local secret is refused."""
    assert verdict(jwt.encode({"iss": A, **CLAIMS}, SECRET, "HS256", {"kid": "k"}).encode()) is Reason.SIGNATURE


def test_2_2_weak_secret() -> None:
    """Section 2.2: a secret that can be guessed is refused when the file is read."""
    with pytest.raises(ValueError, match="at least 32"):
        hmac_key(b"secret", ["HS256"])


def test_2_4_multiplicity_of_json_encodings() -> None:
    """Section 2.4: tokens in JSON serialization, or in UTF-16, are none."""
    head, claims, signature = (text.decode() for text in signed(A).split(b"."))
    assert verdict(json.dumps({"protected": head, "payload": claims, "signature": signature}).encode()) is Reason.TOKEN
    assert verdict(signed(A, json.dumps({"iss": A, **CLAIMS}).encode("utf-16")), Issuers([issuer("a", A)], None)) is Reason.TOKEN


def test_2_6_substitution_across_issuers() -> None:
    """Section 2.6: a token that one issuer signed in the name of another is refused, whatever its kid."""
    assert verdict(signed(B, {"iss": A, **CLAIMS})) is Reason.SIGNATURE
    assert verdict(signed(A, {"iss": B, **CLAIMS})) is Reason.SIGNATURE
    assert isinstance(VERIFIER.verify(signed(B, {"iss": A, **CLAIMS}, kid=...)), Unsettled)


@pytest.mark.parametrize("iss", [A + "/", A[:-1], "https://A.example", [A], {"iss": A}, None, ""])
def test_3_8_issuer(iss: object) -> None:
    """Section 3.8: an issuer that is not exactly a known one is nobody; its tokens fall to the local key, and fail."""
    assert verdict(signed(A, {**CLAIMS, "iss": iss})) is Reason.SIGNATURE
    assert verdict(signed(A, {**CLAIMS, "iss": iss}), Issuers([issuer("a", A)], None)) is Reason.TOKEN


@pytest.mark.parametrize("aud", ["apis", "ap", ["other"], [], None, {"api": 1}])
def test_3_9_substitution_across_audiences(aud: object) -> None:
    """Section 3.9: a token for another service is refused; one for several, of which this is one, passes."""
    assert verdict(signed(A, {"iss": A, **CLAIMS, "aud": aud})) is Reason.TOKEN
    assert verdict(signed(A, {"iss": A, **CLAIMS, "aud": ["other", "api"]})) == "alice"


def test_3_10_headers_that_bring_keys() -> None:
    """Section 3.10: jku, x5u, jwk and x5c in a token are never looked at, be they good or bad; kid is no path and no query."""
    mallory = private_key("RS256")
    bait = {
        "jku": "https://evil.example/keys", "x5u": "https://evil.example/x", "jwk": public_jwk(mallory, "RS256", kid="k"), "x5c": ["AAAA"],
    }  # fmt: skip
    for name, value in bait.items():
        assert verdict(signed(A, key=mallory, **{name: value})) is Reason.SIGNATURE
        assert verdict(signed(A, **{name: value})) == "alice"
    keys = KeySet(Pace())
    keys.succeeded(key_ring(json.dumps({"keys": [public_jwk(KEYS[A], "RS256", kid="k")]}).encode(), ["RS256"]), None, 0.0, 0.0)
    verifier = Issuers([Issuer("a", A, ["RS256"], (), keys, lambda raw, waited: None)], None)
    for kid in ("../../etc/passwd", "' OR 1=1 --", "\x00", "k\n", "K"):
        assert isinstance(verifier.verify(signed(A, kid=kid)), Unsettled)
    for value in (7, ["k"], {}, "x" * 300):
        assert verdict(signed(A, kid=value)) is Reason.TOKEN


def test_3_10_kid_of_another_issuer() -> None:
    """Section 3.10: kid selects among the issuer's own keys only."""
    other = Issuers([issuer("a", A, kid="ka"), issuer("b", B, kid="kb")], None)
    assert isinstance(other.verify(signed(A, kid="kb")), Unsettled)
    assert isinstance(other.verify(signed(A, kid="ka")), VerifiedToken)


@pytest.mark.parametrize("typ", ["dpop+jwt", "logout+jwt", "secevent+jwt", "id+jwt", "application/dpop+jwt", "", 7, None, ["jwt"], "jwt "])
def test_3_11_type_confusion(typ: object) -> None:
    """Section 3.11: a token that was made for something else is refused though rightly signed."""
    assert verdict(signed(A, typ=typ)) is Reason.TOKEN


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt", ...])
def test_3_11_types_that_are_meant(typ: object) -> None:
    """Section 3.11: access tokens, and those without a type, pass."""
    assert verdict(signed(A, typ=typ)) == "alice"


def test_algorithm_is_the_keys_own() -> None:
    """Row 2 (CVE-2026-48523): an algorithm that is allowed, but not that key's, never verifies with it."""
    both = ("RS256", "PS256", "ES256")
    verifier = Issuers([issuer("a", A, algorithms=both)], None)
    assert verdict(signed(A, alg="PS256"), verifier) is Reason.SIGNATURE
    assert verdict(signed(A, key=KEYS[B], alg="ES256"), verifier) is Reason.SIGNATURE
    assert verdict(signed(A), verifier) == "alice"
    only = Issuers([issuer("b", B, algorithms=("ES256",))], None)
    assert verdict(signed(B, key=KEYS[A], alg="RS256"), only) is Reason.SIGNATURE


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"crit": None}])
def test_critical_headers(header: dict[str, object]) -> None:
    """RFC 7515 section 4.1.11: what a token calls critical is refused, as nothing there is understood."""
    assert verdict(signed(A, **header)) is Reason.TOKEN


def test_nested() -> None:
    """RFC 7519 section 5.2: a token within a token is refused, and so is an encrypted one."""
    assert verdict(signed(A, signed(A), cty="JWT")) is Reason.SIGNATURE
    assert verdict(signed(A, signed(A), cty="JWT"), Issuers([issuer("a", A)], None)) is Reason.TOKEN
    assert verdict(b".".join([part({"alg": "RSA-OAEP", "enc": "A256GCM"})] * 5)) is Reason.TOKEN


def test_3_6_compressed() -> None:
    """Section 3.6: nothing is ever decompressed; a token that says it is compressed is refused."""
    bomb = zlib.compress(b" " * 1_000_000)
    assert verdict(signed(A, bomb, zip="DEF")) is Reason.SIGNATURE
    assert verdict(signed(A, zip="DEF")) is Reason.TOKEN


def test_giant() -> None:
    """A token as long as a head may be is a verdict like any other, and is not kept."""
    cache = TokenCache(VERIFIER, 10, 1 << 20)
    long = signed(A, {"iss": A, **CLAIMS, "pad": "x" * 20_000})
    assert isinstance(cache.identify(long, RULES, NOW), Identity)
    assert len(cache) == 0
    deep = b'{"iss": "%s", "a": %s}' % (A.encode(), b"[" * 10_000 + b"]" * 10_000)
    assert verdict(signed(A, deep)) in (Reason.TOKEN, Reason.SIGNATURE)


@pytest.mark.parametrize(
    "claims",
    [b'{"iss":"%s","sub":"alice","exp":2000,"aud":"api","sub":"root"}', b'{"iss":"https://b.example","iss":"%s","sub":"alice","exp":2000}',
     b'{"iss":"%s","sub":"alice","exp":2000,"exp":1e9}', b'{"iss":"%s","sub":"alice","exp":2000,"a":{"b":1,"b":2}}'],
)  # fmt: skip
def test_members_named_twice(claims: bytes) -> None:
    """RFC 7519 section 4: a member named twice makes the token void, so that no two readers see different users or issuers."""
    found = verdict(signed(A, claims % A.encode()))
    assert found in (Reason.TOKEN, Reason.SIGNATURE)
    head = b'{"alg":"RS256","kid":"k","alg":"none"}'
    text = part(head) + b"." + part({"iss": A, **CLAIMS})
    assert verdict(text + b"." + signed(A).rpartition(b".")[2]) is Reason.TOKEN


def test_other_spellings() -> None:
    """RFC 7515 section 2: padding, blanks, the other alphabet and spare bits make no second spelling of a token."""
    raw = signed(A)
    head, claims, signature = raw.split(b".")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = signature[:-1] + bytes((alphabet[alphabet.index(signature[-1]) ^ 1],))
    spellings = [raw + b"=", raw + b"\n", b" " + raw, raw + b".", b"." + raw, b".".join((head, claims + b"=", signature)), b".".join((head, claims, twin))]
    spellings += [raw.replace(b"-", b"+").replace(b"_", b"/") + b"=="]
    for other in spellings:
        assert verdict(other) in (Reason.TOKEN, Reason.SIGNATURE)


def test_roles() -> None:
    """A list of roles is sent whole where the issuer's rules allow lists, a comma within a name encoded; else it is refused."""
    claims = {"iss": B, **CLAIMS, "role": ["admin", "a,b", "admin"]}
    found = TokenCache(VERIFIER, 10, 1 << 20).identify(signed(B, claims), RULES, NOW)
    assert isinstance(found, Identity)
    assert found.headers.endswith(b"X-User-Role: admin,a%2Cb\r\n")
    assert found.roles == ("admin", "a,b")
    assert verdict(signed(A, {**claims, "iss": A})) is Reason.TOKEN
    many = [f"{number}" * 100 for number in range(100, 140)]
    for roles in (["a", 7], ["a", ""], ["a", "b\n"], many, {"a": 1}, [["a"]]):
        assert verdict(signed(B, {**claims, "role": roles})) is Reason.TOKEN
    empty = TokenCache(VERIFIER, 10, 1 << 20).identify(signed(B, {**claims, "role": []}), RULES, NOW)
    assert isinstance(empty, Identity)
    assert empty.roles == ("user",)


def test_which_issuers_a_route_takes() -> None:
    """A token of an issuer that the route does not name is refused there, though it is good elsewhere."""
    assert verdict(signed(A), rules=IssuersRules({"b": IdentityRules(issuer=B)})) is Reason.TOKEN
    assert verdict(signed(B), rules=IssuersRules({"b": IdentityRules(issuer=B)})) == "alice"


def test_an_issuer_that_does_not_name_its_keys() -> None:
    """A token without kid is verified with the one key that fits; when that fails, the key may have changed."""
    verifier = Issuers([issuer("a", A, kid=None)], None)
    assert verdict(signed(A, kid=...), verifier) == "alice"
    assert isinstance(verifier.verify(signed(A, kid=..., key=private_key("RS256"))), Unsettled)


def test_no_fetch_for_what_is_refused_anyway() -> None:
    """A token of an unknown key that would be refused in any case is refused at once."""
    for raw in (signed(A, kid="new", crit=["x"]), signed(A, kid="new", typ="dpop+jwt"), signed(A, {"iss": A, "exp": "x"}, kid="new")):
        assert verdict(raw) is Reason.TOKEN
    assert verdict(signed(A, kid="new", alg="RS512")) is Reason.SIGNATURE


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=4)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "zip", "jwk", "iss", "sub", "aud", "exp", "nbf", "role", "x"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON), st.dictionaries(NAMES, JSON), st.binary(max_size=80), st.sampled_from([A, B]))
def test_any_token_is_a_verdict(header: dict[str, object], claims: dict[str, object], signature: bytes, iss: str) -> None:
    """Whatever stands in a token's header and claims, there is a refusal or a wait, and no error; none passes without a signature."""
    head = {"alg": ALGORITHM[iss], "kid": "k", **header}
    raw = b".".join((part(head), part({"iss": iss, **claims}), part(signature)))
    assert isinstance(VERIFIER.verify(raw), Refused | Unsettled)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, JSON))
def test_any_claims_are_a_verdict(claims: dict[str, object]) -> None:
    """Whatever an issuer signs, there is an identity or a refusal."""
    found = TokenCache(VERIFIER, 10, 1 << 20).identify(signed(A, {"iss": A, **CLAIMS, **claims}), RULES, NOW)
    assert isinstance(found, Identity | Refused | Unsettled)
