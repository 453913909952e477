# -*- test-case-name: tests.test_buildproofs -*-
"""
Makes what looks at API keys, proofs and certificates out of settings: nothing where none is
configured. Lets in only settings that have been read without a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.admission.apikeys import KeyRules
from gateway.admission.certificates import Authorities, CertificateRules
from gateway.admission.claim_headers import ClaimHeaders
from gateway.admission.identity import Identity
from gateway.admission.key_limits import OWNER, KeyLimits
from gateway.admission.proofs import Proofs
from gateway.admission.replays import Replays, replay_rule
from gateway.admission.takes import Takes
from gateway.admission.windows import Combined, FixedWindow, Gcra, Rule, SlidingWindow
from gateway.interfaces import IBuckets
from gateway.keywatch import KeyFile
from gateway.settings import DpopSettings, RouteSettings, Settings
from gateway.verdicts import Refused


def _on(settings: Settings, name: str) -> bool:
    """Whether [dpop] or [mtls] is on, somewhere."""
    every = [getattr(settings, name), *(getattr(route, name) for route in settings.routes)]
    return any(each.mode != "off" for each in every)


def proving(settings: Settings) -> bool:
    """Whether there is anything beside bearer tokens."""
    return bool(settings.apikeys.file) or _on(settings, "dpop") or _on(settings, "mtls")


def proving_fields(settings: Settings) -> tuple[str, str]:
    """The fields of API keys and of certificates; empty where nobody looks at them."""
    keys = settings.apikeys.header if settings.apikeys.file else ""
    return keys, settings.mtls.header if _on(settings, "mtls") else ""


def takes_of(
    settings: Settings, route: RouteSettings | None, claim_headers: ClaimHeaders | None = None
) -> Takes | None:
    """
    The credentials that a route takes; C{None}: bearer tokens, and nothing else is configured.

    @param route: C{None}: where there is none.
    @param claim_headers: the claims that its service gets.
    """
    if not proving(settings):
        return None
    holds: Any = route if route is not None else settings
    named = route.auth if route is not None else ()
    dpop, mtls = holds.dpop.mode, holds.mtls.mode
    # A key or a certificate has no proof to come with.
    others = dpop != "require"
    certificates = settings.mtls.user != "none" and mtls != "off" and others
    return Takes(
        tokens=not named or "jwt" in named,
        keys=bool(settings.apikeys.file) and others and (not named or "apikey" in named),
        certificates=certificates and (not named or "mtls" in named),
        dpop=dpop,
        mtls=mtls,
        algs=f'algs="{" ".join(settings.dpop.algorithms)}"'.encode("ascii"),
        claim_headers=claim_headers,
    )


def proofs_of(
    settings: Settings,
    kept: Callable[[str, Any, Callable[[], Any]], Any],
    in_thread: Callable[..., Any],
    shared: IBuckets | None = None,
    revoked: Callable[[bytes, Identity], Refused | None] | None = None,
) -> Proofs | None:
    """
    What looks at them; C{None}: there is nothing beside bearer tokens.

    @param kept: see L{gateway.build.Rules.of}: what means the same is the same, across reloads.
    @param in_thread: calls a function in a thread and returns a Deferred.
    @param shared: where processes share what they have seen; C{None}: nowhere.
    @param revoked: see L{Proofs}.
    """
    if not proving(settings):
        return None
    keys, certificate = (name.lower().encode("ascii") for name in proving_fields(settings))
    file, dpop = settings.apikeys.file, settings.dpop
    limits = _key_limits(settings, kept)
    made = KeyRules(settings.jwt.default_role, settings.ratelimit.plan_claim, limits)
    return Proofs(
        keys=kept("keys", (file, made), lambda: KeyFile(file, made, in_thread))
        if file
        else None,
        key_header=keys,
        certificates=_certificates(settings) if _on(settings, "mtls") else None,
        certificate_header=certificate,
        dpop=_proof_rules(dpop) if _on(settings, "dpop") else None,
        replays=_replays(dpop, kept, shared) if _on(settings, "dpop") else None,
        revoked=revoked,
    )


def windows_rule(
    spans: Sequence[tuple[int, float]],
    owner: str,
    algorithm: str = "sliding-window",
    burst: int = 1,
    ietf: bool = True,
) -> Rule:
    """A rule of one or several windows of (limit, seconds)."""
    made: list[SlidingWindow | FixedWindow | Gcra] = []
    for limit, seconds in spans:
        window = round(seconds * 1_000_000)
        if algorithm == "fixed-window":
            made.append(FixedWindow(limit, window, owner, ietf))
        elif algorithm == "gcra":
            made.append(Gcra(limit, window, burst, owner, ietf))
        else:
            made.append(SlidingWindow(limit, window, owner, ietf))
    return made[0] if len(made) == 1 else Combined(made, ietf)


def _key_limits(settings: Settings, kept: Callable[..., Any]) -> KeyLimits:
    """What API keys' own limits are counted by: as [ratelimit] counts, but for the windows."""
    rate = settings.ratelimit
    meaning = rate.algorithm, rate.burst, rate.ietf_headers
    found: KeyLimits = kept(
        "key limits", meaning, lambda: KeyLimits(lambda made: windows_rule(made, OWNER, *meaning))
    )
    return found


def key_rules(proofs: Proofs | None) -> set[Any]:
    """The rules of API keys' own limits, with which counters go on across a reload."""
    return proofs.keys.rules() if proofs is not None and proofs.keys is not None else set()


def proof_rule(dpop: DpopSettings) -> Gcra:
    """That a proof is good once."""
    return replay_rule(dpop.lifetime + dpop.leeway)


def _replays(dpop: DpopSettings, kept: Callable[..., Any], shared: IBuckets | None) -> Replays:
    made = proof_rule(dpop)
    # Among the limits' rules, so that a shared store keeps what it knows.
    rule = kept("rate", (made.id, False), lambda: made)
    found: Replays = kept(
        "replays", (made.id, dpop.replays), lambda: Replays(rule, dpop.replays, shared)
    )
    return found


def _proof_rules(dpop: DpopSettings) -> Any:
    from gateway.admission.dpop import Nonces, ProofRules  # noqa: PLC0415 - needs cryptography

    nonces = None
    if dpop.nonce and dpop.nonce_secret is not None:
        nonces = Nonces(dpop.nonce_secret.reveal(), dpop.nonce_lifetime)
    return ProofRules(dpop.algorithms, dpop.lifetime, dpop.leeway, nonces)


def _certificates(settings: Settings) -> CertificateRules:
    mtls = settings.mtls
    authorities = Authorities(mtls.authorities) if mtls.authorities else None
    return CertificateRules(authorities, mtls.user, mtls.role or settings.jwt.default_role)


def look_after(proofs: Proofs, now: int) -> None:
    """Called every second, with unix microseconds: another file of keys, proofs that are old."""
    if proofs.keys is not None:
        proofs.keys.look()
    if proofs.replays is not None:
        proofs.replays.local.sweep(now)
