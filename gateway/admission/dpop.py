# -*- test-case-name: tests.admission.test_dpop -*-
"""
Lets a proof through that was made for this very request, this token and now (RFC 9449
section 4.3); refuses any other with 401. That it has not been here before is asked by who
keeps the memory (L{Proof.replay_key}).

A proof carries its own key, so its signature says only that the sender has that key; what
counts is that the token is bound to it (C{cnf.jkt}).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.admission.targets import same_target
from gateway.jose import json_object, unbase64
from gateway.jwks import named_key
from gateway.keys import VerificationKey
from gateway.verdicts import Reason, Refused

#: Bytes of a proof, and of its C{jti}.
MAX_PROOF, MAX_JTI = 8192, 512

#: Keys remembered, for most clients send many proofs with one, and bytes of their headers.
_MEMO, MAX_KEPT = 4096, 2048

#: RFC 7638 section 3.2: the members that are hashed, in their order.
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}


def thumbprint(jwk: dict[str, Any]) -> str:
    """The name of a public key (RFC 7638): base64url of the SHA-256 of its needed members."""
    members = {name: jwk[name] for name in _MEMBERS[jwk["kty"]]}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return _hash(text.encode("utf-8"))


def _hash(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


@dataclass(frozen=True, slots=True)
class Proof:
    """
    A proof that is right.

    @ivar jkt: the thumbprint of its key.
    @ivar replay_key: what is never to be seen again within the proof's life.
    @ivar old_nonce: whether the client should be told a newer one.
    """

    jkt: str
    replay_key: str
    old_nonce: bool = False


class ProofRules:
    """
    What is asked of a proof.

    @param lifetime: seconds for which one may be used.
    @param leeway: seconds by which its C{iat} may lie ahead.
    @param nonces: what it must contain one of; C{None}: none.
    """

    def __init__(
        self,
        algorithms: Sequence[str],
        lifetime: float = 60.0,
        leeway: float = 5.0,
        nonces: Nonces | None = None,
    ) -> None:
        self._algorithms = tuple(algorithms)
        self.lifetime = lifetime
        self.leeway = leeway
        self.nonces = nonces
        self._known: dict[bytes, tuple[VerificationKey, str, str]] = {}
        names = " ".join(algorithms)
        #: The challenge of RFC 9449 section 7.1, and its parameters.
        self.algs = f'algs="{names}"'.encode("ascii")
        self._refused = self._refusal(Reason.PROOF, b"invalid_dpop_proof")

    def check(
        self, proof: bytes, method: bytes, target: tuple[bytes, bytes, bytes], token: bytes,
        now: float,
    ) -> Proof | Refused:  # fmt: skip
        """
        Look at a proof; never raises, whatever the bytes are.

        @param target: scheme, authority and path as the client saw them.
        @param token: the raw access token it came with.
        @param now: unix seconds.
        """
        parts = proof.split(b".")
        if len(parts) != 3 or len(proof) > MAX_PROOF:
            return self._refused
        known = self._known.get(parts[0])
        if known is None:
            known = self._header(parts[0])
            if known is None:
                return self._refused
        key, algorithm, jkt = known
        signature = unbase64(parts[2])
        if signature is None or not key.verify(algorithm, proof[: -len(parts[2]) - 1], signature):
            return self._refused
        claims = json_object(unbase64(parts[1]))
        if claims is None:
            return self._refused
        return self._claims(claims, method, target, token, now, jkt)

    def _claims(
        self, claims: dict[str, Any], method: bytes, target: tuple[bytes, bytes, bytes],
        token: bytes, now: float, jkt: str,
    ) -> Proof | Refused:  # fmt: skip
        jti, iat, htu, ath = (claims.get(name) for name in ("jti", "iat", "htu", "ath"))
        if (
            not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI
            or isinstance(iat, bool) or not isinstance(iat, int | float) or not _finite(iat)
            or not isinstance(htu, str)
            or claims.get("htm") != method.decode("latin-1")
            or not same_target(htu, target)
            or not isinstance(ath, str)
            or not hmac.compare_digest(ath.encode("utf-8", "replace"), _hash(token).encode())
        ):  # fmt: skip
            return self._refused
        if not now - self.lifetime < iat <= now + self.leeway:
            return self._refused
        old = False
        if self.nonces is not None:
            nonce = claims.get("nonce")
            age = self.nonces.age(nonce, now) if isinstance(nonce, str) else None
            if age is None:
                return self.fresh_nonce(now)
            old = age > 0
        return Proof(jkt, f"dpop:{_hash(f'{jkt} {jti}'.encode('utf-8', 'replace'))}", old)

    def fresh_nonce(self, now: float) -> Refused:
        """Have the client try again with a nonce of ours (RFC 9449 section 8)."""
        assert self.nonces is not None
        refused = self._refusal(Reason.PROOF_NONCE, b"use_dpop_nonce")
        refused.lines += self.nonces.line(now)
        return refused

    def _refusal(self, reason: Reason, error: bytes) -> Refused:
        lines = b'WWW-Authenticate: DPoP realm="gateway", error="%s", %s\r\n' % (error, self.algs)
        return Refused(reason, lines=lines)

    def _header(self, part: bytes) -> tuple[VerificationKey, str, str] | None:
        """The key in a proof's header, bound to the one algorithm that the header names."""
        header = json_object(unbase64(part))
        if (
            header is None
            or header.get("typ") != "dpop+jwt"
            or header.get("alg") not in self._algorithms
            or any(name in header for name in ("crit", "b64", "zip"))
        ):
            return None
        jwk, algorithm = header.get("jwk"), header["alg"]
        try:
            found = named_key(jwk, [algorithm])
        except Exception:
            # A parser of a stranger's key: whatever it raises, the proof is none.
            return None
        if found is None or not isinstance(jwk, dict):
            return None
        known = (found.key, algorithm, thumbprint(jwk))
        if len(part) <= MAX_KEPT:
            if len(self._known) >= _MEMO:
                self._known.clear()
            self._known[part] = known
        return known


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


class Nonces:
    """
    Nonces that need no memory: a keyed hash of the time, the same on all machines that have
    the secret. One is handed out for C{lifetime} seconds and good for as long again.
    """

    def __init__(self, secret: bytes, lifetime: float) -> None:
        self._key = hmac.digest(secret, b"gateway dpop nonce", "sha256")
        self._lifetime = lifetime
        self._made: dict[int, str] = {}

    def current(self, now: float) -> str:
        """The one that is handed out now."""
        return self._of(int(now // self._lifetime))

    def age(self, nonce: str, now: float) -> int | None:
        """0: the current one; 1: the one before; C{None}: any other."""
        period = int(now // self._lifetime)
        raw = nonce.encode("utf-8", "replace")
        for age in (0, 1):
            if hmac.compare_digest(self._of(period - age).encode(), raw):
                return age
        return None

    def line(self, now: float) -> bytes:
        """The header line that tells it."""
        return b"DPoP-Nonce: %s\r\n" % self.current(now).encode("ascii")

    def _of(self, period: int) -> str:
        made = self._made.get(period)
        if made is None:
            if len(self._made) > 3:
                self._made.clear()
            digest = hmac.digest(self._key, b"%d" % period, "sha256")[:18]
            made = self._made[period] = urlsafe_b64encode(digest).decode("ascii")
        return made

    def __repr__(self) -> str:
        return "<Nonces>"
