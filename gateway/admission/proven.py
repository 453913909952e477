# -*- test-case-name: tests.admission.test_presented -*-
"""
Lets a request with a valid token on when who sends it is who the token is bound to: by a proof
made for this request (DPoP, RFC 9449), by a client certificate (RFC 8705), or because it is
bound to nobody. Refuses with 401; with 503 when no more proofs can be remembered.

Runs inside L{Authenticated}, so that strangers make no proof be looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from gateway.admission.confirmation import bound_to_key, confirmed
from gateway.admission.dpop import Proof
from gateway.admission.pending import Pending
from gateway.admission.proofs import Presentation, Proofs
from gateway.admission.tokens import challenge
from gateway.admission.windows import Count
from gateway.answers import refuse
from gateway.exchange import Exchange, exchange_of
from gateway.http.request import Request
from gateway.shell import Shell, afterwards
from gateway.verdicts import Reason, Refused

_UNPROVEN = Refused(Reason.PROOF, lines=challenge(Reason.PROOF))
_STORE = Refused(Reason.STORE, retry_after=1)
_NOTHING = Presentation(None)


class Proven(Shell):
    """
    The wrapper around C{inner}.

    @param now: the wall clock, unix seconds.
    """

    def __init__(self, inner: IResource, proofs: Proofs, now: Callable[[], float]) -> None:
        self._inner = inner
        self._proofs = proofs
        self._now = now

    def render(self, request: Any) -> Any:
        """Compare what the token is bound to with what was shown."""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        identity, shown = exchange.identity, exchange.presented or _NOTHING
        if identity is None:
            return refuse(face, exchange, _UNPROVEN)
        now = self._now()
        found = self._proof(face, exchange, shown, now) if shown.proofs is not None else None
        if isinstance(found, Refused):
            return refuse(face, exchange, found)
        proof: Proof | None = found
        name = shown.certificate.thumbprint if shown.certificate is not None else None
        jkt = proof.jkt if proof is not None else None
        # A token that came as DPoP is bound, or its proof proves nothing (RFC 9449 section 7.1).
        if (proof is not None and not bound_to_key(identity.claims)) or not confirmed(
            identity.claims, name, jkt
        ):
            return refuse(face, exchange, _UNPROVEN)
        if proof is None:
            return self._inner.render(request)
        return self._remember(request, face, exchange, proof, now)

    def _proof(
        self, face: Any, exchange: Exchange, shown: Presentation, now: float
    ) -> Proof | Refused:
        rules = self._proofs.dpop
        if rules is None or shown.proofs is None or len(shown.proofs) != 1:
            return _UNPROVEN
        secure = hasattr(face.channel.transport, "getPeerCertificate")
        # As it was looked up; where the stage stands alone, as it came.
        path = exchange.path or face.head.target.partition(b"?")[0]
        target = (*seen_origin(exchange.trusted, face.head, secure), path)
        return rules.check(shown.proofs[0], face.method, target, shown.token, now)

    # -- once only

    def _remember(
        self, request: Any, face: Any, exchange: Exchange, proof: Proof, now: float
    ) -> Any:
        replays, identity = self._proofs.replays, exchange.identity
        assert replays is not None
        assert identity is not None
        count = replays.take(proof.replay_key, identity.user, int(now * 1_000_000))
        if type(count) is Count:
            return self._judge(request, face, exchange, proof, now, count)
        # Armed before the wait: the client may leave while the store is asked.
        face.on_cut = count.forget
        count.then(self._counted, request, (proof, now))
        return NOT_DONE_YET

    def _counted(self, counting: Pending) -> None:
        """The store has said whether the proof is new, or nobody can."""
        proof, now = counting.context
        afterwards(counting.request, self._judge, proof, now, counting.count)

    def _judge(
        self, request: Any, face: Any, exchange: Exchange, proof: Proof, now: float, count: Any
    ) -> Any:
        if count is None:
            return refuse(face, exchange, _STORE)
        if not count.allowed:
            if count.full:
                refused = Refused(Reason.PROOF_MEMORY, retry_after=max(1, count.retry_after))
            elif count.note == "closed":
                refused = _STORE
            else:
                refused = _UNPROVEN
            return refuse(face, exchange, refused)
        rules = self._proofs.dpop
        if proof.old_nonce and rules is not None and rules.nonces is not None:
            face.add_lines(rules.nonces.line(now))
        return self._inner.render(request)


def seen_origin(trusted: bool, head: Any, secure: bool) -> tuple[bytes, bytes]:
    """
    Scheme and authority as the client saw them: what a trusted proxy says, else what the
    connection is.
    """
    scheme, host = (b"https" if secure else b"http"), head.host
    if trusted:
        for name, value in head.noted:
            if name == b"x-forwarded-proto":
                scheme = value
            elif name == b"x-forwarded-host":
                host = value
    return scheme, host
