# -*- test-case-name: tests.admission.test_presented -*-
"""
Lets a request on by the one credential that it presents, if its route takes such: an API key
and a certificate at once, a token by way of L{Authenticated} and then L{Proven}. Refuses with
401, with 400 for two credentials, and with 429 an address that has sent too many bad ones.

There only where API keys, DPoP or certificates are configured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from twisted.web.resource import IResource

from gateway.admission import certificates
from gateway.admission.apikeys import CHALLENGE
from gateway.admission.certificates import Certificate
from gateway.admission.identity import Identity
from gateway.admission.proofs import Presentation, Proofs
from gateway.admission.refused import RefusedLimit
from gateway.admission.takes import BEARER_ONLY, Takes
from gateway.admission.tokens import INVALID, REPEATED, challenge
from gateway.admission.windows import refused_lines
from gateway.answers import refuse
from gateway.exchange import Exchange, exchange_of
from gateway.http.request import Request
from gateway.shell import Shell
from gateway.terms import Terms
from gateway.verdicts import Reason, Refused

#: Identities remembered with the fields of a route.
_MEMO = 4096

TWO = Refused(Reason.CREDENTIALS)
NO_CERTIFICATE = Refused(Reason.CERTIFICATE, lines=challenge(Reason.CERTIFICATE))


class Presented(Shell):
    """
    The wrapper around both ways.

    @param tokens: where requests with a token go on, to L{Authenticated}.
    @param inner: where those who are known already do.
    """

    def __init__(
        self, tokens: IResource, inner: IResource, proofs: Proofs, terms: Terms,
        now: Callable[[], float], limit: RefusedLimit | None,
    ) -> None:  # fmt: skip
        self._tokens = tokens
        self._inner = inner
        self._proofs = proofs
        self._terms = terms
        self._now = now
        self._limit = limit
        self._told: dict[tuple[Identity, Takes], Identity] = {}
        self._shown: WeakKeyDictionary[Any, bytes | None] = WeakKeyDictionary()

    def render(self, request: Any) -> Any:
        """Which credential is it?"""
        if type(request) is Request:
            face, exchange = request, request.exchange
        else:
            face, exchange = exchange_of(request)
        takes = (exchange.terms or self._terms).takes or BEARER_ONLY
        certificate = self._certificate(face, exchange) if takes.mtls != "off" else None
        if isinstance(certificate, Refused):
            return refuse(face, exchange, certificate)
        if takes.mtls == "require" and (certificate is None or not certificate.valid(self._now())):
            return refuse(face, exchange, NO_CERTIFICATE)
        name = self._proofs.key_header
        keys = [value for field, value in face.head.noted if field == name] if name else []
        if keys:
            return self._keyed(request, face, exchange, takes, keys)
        if face.authorization:
            return self._token(request, face, exchange, takes, certificate)
        identity = certificate.identity if certificate is not None else None
        if (
            certificate is None
            or identity is None
            or not takes.certificates
            or not identity.not_before <= self._now() < identity.expires
        ):
            return refuse(face, exchange, Refused(Reason.NO_TOKEN, lines=takes.challenges))
        exchange.detail = f"certificate:{certificate.thumbprint}"
        return self._known(request, face, exchange, takes, identity, takes.challenges)

    def _known(
        self, request: Any, face: Any, exchange: Exchange, takes: Takes, identity: Identity,
        challenges: bytes,
    ) -> Any:  # fmt: skip
        """
        Who calls is known, unless that has been revoked; what the service gets to know of it
        depends on the route.
        """
        asked = self._proofs.revoked
        revoked = asked(b"", identity) if asked is not None else None
        if revoked is not None:
            return refuse(face, exchange, replace(revoked, lines=challenges))
        if takes.claim_headers is not None:
            key = (identity, takes)
            told = self._told.get(key)
            if told is None:
                lines = takes.claim_headers.lines(identity.claims)
                if lines is None:
                    return refuse(face, exchange, INVALID)
                if len(self._told) >= _MEMO:
                    self._told.clear()
                told = self._told[key] = identity.telling(lines)
            identity = told
        exchange.identity = identity
        return self._inner.render(request)

    # -- an API key

    def _keyed(
        self, request: Any, face: Any, exchange: Exchange, takes: Takes, keys: list[bytes]
    ) -> Any:
        if len(keys) > 1 or face.authorization:
            return refuse(face, exchange, TWO)
        file = self._proofs.keys
        if not takes.keys or file is None:
            return refuse(face, exchange, Refused(Reason.NO_TOKEN, lines=takes.challenges))
        identity = file.keys.identify(keys[0], self._now())
        if isinstance(identity, Refused):
            return self._bad(face, exchange, identity)
        exchange.detail = f"key:{identity.key}"
        return self._known(request, face, exchange, takes, identity, CHALLENGE)

    def _bad(self, face: Any, exchange: Exchange, refused: Refused) -> int:
        """A key that is none counts as a refused token does."""
        if self._limit is not None:
            now = int(self._now() * 1_000_000)
            key = exchange.address.limit_key if exchange.address is not None else "ip:unknown"
            count = self._limit.exceeded(key, now)
            if count is not None:
                name = count.window.name
                limited = Refused(Reason.LIMIT_REFUSED, count.retry_after, limit=name)
                shadow = (exchange.terms or self._terms).shadow
                if shadow is None or not shadow.passes("ratelimit", exchange, limited):
                    face.add_lines(refused_lines(count))
                    return refuse(face, exchange, limited)
            self._limit.refused(key, now)
        return refuse(face, exchange, refused)

    # -- a token

    def _token(
        self, request: Any, face: Any, exchange: Exchange, takes: Takes,
        certificate: Certificate | None,
    ) -> Any:  # fmt: skip
        if len(face.authorization) > 1:
            return refuse(face, exchange, REPEATED)
        exchange.presented = shown = Presentation(certificate)
        scheme, _, token = face.authorization[0].partition(b" ")
        scheme = scheme.lower()
        if scheme == b"dpop" and takes.dpop != "off" and takes.tokens and token:
            shown.proofs = [value for field, value in face.head.noted if field == b"dpop"]
            shown.token = token
            # From here on it is a token like any other, until Proven looks at its proof.
            face.authorization = (b"Bearer " + token,)
            algs = takes.algs
            exchange.challenge = lambda lines: as_dpop(lines, algs)
        elif scheme != b"bearer" or not token or not takes.tokens or takes.dpop == "require":
            return refuse(face, exchange, Refused(Reason.NO_TOKEN, lines=takes.challenges))
        return self._tokens.render(request)

    # -- a certificate

    def _certificate(self, face: Any, exchange: Exchange) -> Certificate | Refused | None:
        """
        The client's. What a trusted proxy shows in its own handshake is the proxy's, so of its
        clients the header alone tells.
        """
        rules = self._proofs.certificates
        if rules is None:
            return None
        if exchange.trusted:
            name = self._proofs.certificate_header
            values = [value for field, value in face.head.noted if field == name] if name else []
            der = certificates.told(values)
            if isinstance(der, Refused):
                return der
        else:
            der = self._shown_by(face.channel.transport)
        return rules.look(der) if der is not None else None

    def _shown_by(self, transport: Any) -> bytes | None:
        """What the peer has shown in the TLS handshake, which is the same for all requests."""
        ask = getattr(transport, "getPeerCertificate", None)
        if ask is None:
            return None
        try:
            return self._shown[transport]
        except KeyError:
            pass
        found = ask()
        der = None
        if found is not None:
            from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

            der = found.to_cryptography().public_bytes(Encoding.DER)
            if len(der) > certificates.MAX_DER:
                der = None
        self._shown[transport] = der
        return der


def as_dpop(lines: bytes, algs: bytes) -> bytes:
    """A refusal's challenge as RFC 9449 section 7.1 has it for tokens that came as DPoP."""
    return b"".join(
        b"%s, %s\r\n" % (line.replace(b": Bearer ", b": DPoP ", 1), algs)
        if line.startswith(b"WWW-Authenticate: Bearer ")
        else line + b"\r\n"
        for line in lines.split(b"\r\n")
        if line
    )
