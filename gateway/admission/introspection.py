# -*- test-case-name: tests.issuers.test_introspection -*-
"""
Opaque tokens (RFC 7662): lets one through that its issuer has called active, for as long as
that answer holds; refuses with 401 one that it has not, and with 503 while it can't be asked.

What is no token by its shape (RFC 6750 section 2.1), or is too long, is never asked about.
Answers are kept by the token's SHA-256, so that what nobody has vouched for is not kept
itself; bounded, the least recently used goes first.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from gateway.admission.tokens import EXPIRED, INVALID, Unsettled, VerifiedToken, timed
from gateway.jose import json_object
from gateway.verdicts import Reason, Refused

#: Bytes of a token that is asked about.
MAX_OPAQUE = 4096

#: Seconds for which a token is not asked about again when nobody answered.
UNANSWERED = 1.0

_TOKEN68 = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")

Answer = VerifiedToken | Refused


class Introspection:
    """
    What is known of opaque tokens.

    @param name: whose tokens they are, for the rules.
    @param cache_for: seconds for which a good answer holds,
    @param refused_for: and a bad one.
    @param most: answers kept.
    @param ask: see L{Unsettled}.
    """

    def __init__(
        self, name: str, cache_for: float, refused_for: float, most: int,
        ask: Callable[[bytes, float], Any],
    ) -> None:  # fmt: skip
        self._name = name
        self._cache_for = cache_for
        self._refused_for = refused_for
        self._most = most
        self._answers: OrderedDict[bytes, tuple[Answer, float]] = OrderedDict()
        self._unsettled = Unsettled(ask)

    def verify(self, raw: bytes, now: float = 0.0) -> Answer | Unsettled:
        """What the issuer has said of the token; C{now} is unix seconds."""
        if len(raw) > MAX_OPAQUE or _TOKEN68.fullmatch(raw) is None:
            return INVALID
        key = sha256(raw).digest()
        found = self._answers.get(key)
        if found is None or found[1] <= now:
            return self._unsettled
        self._answers.move_to_end(key)
        return found[0]

    def answered(self, raw: bytes, document: bytes, now: float) -> bool:
        """
        What the issuer says of it.

        @return: whether that is an answer at all (RFC 7662 section 2.2).
        """
        said = json_object(document)
        if said is None or not isinstance(said.get("active"), bool):
            self.unanswered(raw, 1, now)
            return False
        judged = self._judge(raw, said, now)
        if isinstance(judged, Refused):
            self._keep(raw, judged, now + self._refused_for)
        else:
            self._keep(raw, judged, judged.until)
        return True

    def unanswered(self, raw: bytes, retry_after: int, now: float) -> None:
        """Nobody has said anything."""
        self._keep(raw, Refused(Reason.INTROSPECTION, retry_after), now + UNANSWERED)

    def _judge(self, raw: bytes, said: dict[str, Any], now: float) -> Answer:
        kind, use = said.get("token_type", "Bearer"), said.get("token_use", "access")
        # A token that is bound to a proof says to which (cnf): the rules and the proof see to it.
        kinds = ("bearer", "dpop") if "cnf" in said else ("bearer",)
        if said["active"] is not True or not isinstance(kind, str) or kind.lower() not in kinds:
            return INVALID
        # RFC 7662 section 2.1 lets a server speak of refresh tokens, too.
        if use not in ("access", "access_token"):
            return INVALID
        judged = timed(raw, said)
        if isinstance(judged, Refused):
            return judged
        judged.issuer = self._name
        judged.until = now + self._cache_for
        if judged.exp is not None:
            if judged.exp <= now:
                return EXPIRED
            judged.until = min(judged.until, judged.exp)
        return judged

    def _keep(self, raw: bytes, answer: Answer, until: float) -> None:
        key = sha256(raw).digest()
        self._answers[key] = answer, until
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)
