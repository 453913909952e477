# -*- test-case-name: tests.admission.test_identity -*-
"""
Lets a verified token through as somebody; refuses with 401 one that is expired, not yet
valid, meant for others, or that names nobody.

What is made here once is kept beside the token: the identity headers as ready bytes and
the two moments between which they hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from gateway.admission.tokens import EXPIRED, INVALID, VerifiedToken
from gateway.cores import IdentityCore
from gateway.verdicts import Refused

if TYPE_CHECKING:
    from gateway.admission.claim_headers import ClaimHeaders

#: Bytes of a user's or a role's name as it is sent.
MAX_NAME = 512

#: The same of all roles of a user together.
MAX_ROLES = 4096

#: Visible ASCII that travels as it is; C{,} would look like a list, C{%} like an escape.
_PLAIN = re.compile(r"[!-$&-+\--~]+")
SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in ",%")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def field_text(name: str) -> bytes | None:
    """
    A name as the upstream gets it, or C{None} for one no service should ever see.

    What is not visible ASCII, and C{,} and C{%}, is percent-encoded (UTF-8), so that no two
    names share a header value.
    """
    if _PLAIN.fullmatch(name) is not None:
        text = name.encode("ascii")
    else:
        if not name or name != name.strip() or _CONTROL.search(name) is not None:
            return None
        try:
            text = quote(name, safe=SAFE).encode("ascii")
        except UnicodeEncodeError:  # a lone surrogate
            return None
    # More than one "@" deceives services that split e-mail addresses (GHSA-c5c4-8r6x-56w3).
    return text if len(text) <= MAX_NAME and name.count("@") <= 1 else None


class Identity(IdentityCore):
    """
    Who calls.

    @ivar user: C{sub}.
    @ivar role: as the upstream is told, less its encoding; several are comma-separated.
    @ivar roles: each of them.
    @ivar headers: the identity fields for the upstream, a CRLF behind each.
    @ivar sub_key: C{limit_key("sub")}, which is asked for most.
    @ivar not_before: unix seconds, leeway included.
    @ivar expires: the same; infinite without C{exp}.
    @ivar verdicts: what policies have said of these claims, see L{gateway.routing.policy}.
    @ivar key: the name of the API key that says so; empty: something else does.
    @ivar rate: the rule of a limit of its own (L{gateway.admission.windows}), if it has one.
    @ivar asserted: kept by L{gateway.assertion.signer}.
    """

    key = ""
    rate: Any = None

    __slots__ = ("_keys", "asserted", "claims", "role", "roles", "verdicts")

    def __init__(
        self, user: str, role: str, headers: bytes, claims: dict[str, Any],
        not_before: float, expires: float, roles: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.user = user
        self.role = role
        self.roles = roles or (role,)
        self.headers = headers
        self.claims = claims
        self.not_before = not_before
        self.expires = expires
        self.sub_key = f"sub:{user}"
        self.asserted: dict[Any, Any] | None = None
        self._keys: dict[str, str | None] | None = None
        self.verdicts: dict[Any, Refused | None] | None = None

    def limit_key(self, claim: str) -> str | None:
        """
        The counter's key made of that claim, or C{None} when the token has none that a key
        can be made of. Keys of different claims, or of values of different types, never
        collide.
        """
        if claim == "sub":
            return self.sub_key
        if self._keys is None:
            self._keys = {}
        try:
            return self._keys[claim]
        except KeyError:
            value = claim_of(self.claims, claim)
            key = None
            if isinstance(value, str | int | float):
                key = f"claim:{quote(claim, safe='')}:{type(value).__name__}:{value}"
            self._keys[claim] = key
            return key

    def telling(self, lines: bytes) -> Identity:
        """The same with further fields for the upstream."""
        headers = self.headers + lines
        return Identity(
            self.user, self.role, headers, self.claims, self.not_before, self.expires, self.roles
        )

    def __repr__(self) -> str:
        return f"<Identity {self.user!r} {self.role!r}>"


class KeyIdentity(Identity):
    """
    Who calls with an API key.

    @ivar key: its name.
    @ivar rate: see L{Identity.rate}, which no token has.
    """

    __slots__ = ("key", "rate")

    def __init__(
        self, user: str, role: str, headers: bytes, claims: dict[str, Any],
        expires: float, key: str, rate: Any,
    ) -> None:  # fmt: skip
        super().__init__(user, role, headers, claims, 0.0, expires)
        self.key = key
        self.rate = rate

    def telling(self, lines: bytes) -> Identity:
        """See L{Identity.telling}."""
        headers = self.headers + lines
        return KeyIdentity(
            self.user, self.role, headers, self.claims, self.expires, self.key, self.rate
        )


def claim_of(claims: dict[str, Any], name: str) -> object:
    """A claim by name; a dotted name reaches into objects unless a claim is called so."""
    if name in claims or "." not in name:
        return claims.get(name)
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


class IIdentityRules(Protocol):
    """What is asked of a verified token; compared by identity."""

    def identify(self, token: VerifiedToken, now: float) -> Identity | Refused:
        """Who that is; C{now} is unix seconds."""


class IssuersRules:
    """
    What is asked of tokens of several issuers; a token of any other is refused.

    @param rules: by the issuer's name; empty: the local key's.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: Mapping[str, IdentityRules]) -> None:
        self._rules = dict(rules)

    def identify(self, token: VerifiedToken, now: float) -> Identity | Refused:
        """By the rules of the issuer that has vouched for the token."""
        rules = self._rules.get(token.issuer)
        return INVALID if rules is None else rules.identify(token, now)


class IdentityRules:
    """
    What is asked of a verified token; compared by identity.

    @param issuer: C{iss} must equal it; not looked at when empty.
    @param audience: C{aud} must equal or contain it, or one of them; not looked at when empty.
    @param leeway: seconds by which clocks may differ.
    @param claim_headers: further claims for the upstream.
    @param proofs: whether somebody looks at what a token is bound to (C{cnf}); where nobody
        does, a bound one is refused.
    @param role_lists: whether the role's claim may be a list.
    """

    __slots__ = (
        "_audiences", "claim_headers", "default_role", "issuer", "leeway", "proofs", "require_exp",
        "role_claim", "role_lists",
    )  # fmt: skip

    def __init__(
        self, issuer: str = "", audience: str | Sequence[str] = "", leeway: float = 0.0,
        require_exp: bool = True, role_claim: str = "role", default_role: str = "user",
        claim_headers: ClaimHeaders | None = None, proofs: bool = False,
        role_lists: bool = False,
    ) -> None:  # fmt: skip
        self.issuer = issuer
        some = (audience,) if isinstance(audience, str) else audience
        self._audiences = frozenset(each for each in some if each)
        self.leeway = leeway
        self.require_exp = require_exp
        self.role_claim = role_claim
        self.default_role = default_role
        self.claim_headers = claim_headers
        self.proofs = proofs
        self.role_lists = role_lists

    def identify(self, token: VerifiedToken, now: float) -> Identity | Refused:
        """Expiry first, then the rest; C{now} is unix seconds."""
        claims = token.claims
        expires = float("inf")
        if token.exp is not None:
            expires = token.exp + self.leeway
            if expires <= now:
                return EXPIRED
        elif self.require_exp:
            return INVALID
        expires = min(expires, token.until)
        not_before = token.nbf - self.leeway if token.nbf is not None else 0.0
        if not_before > now or not self._meant(claims) or ("cnf" in claims and not self.proofs):
            return INVALID
        user, roles = claims.get("sub"), self._roles(claims)
        if not isinstance(user, str) or roles is None:
            return INVALID
        user_text, role_texts = field_text(user), [field_text(role) for role in roles]
        if user_text is None or None in role_texts:
            return INVALID
        # A comma within a name is encoded, so that one between two names can be told from it.
        role_text = b",".join(role_texts)  # type: ignore[arg-type]
        if len(role_text) > (MAX_NAME if len(roles) == 1 else MAX_ROLES):
            return INVALID
        headers = b"X-User-ID: %s\r\nX-User-Role: %s\r\n" % (user_text, role_text)
        if self.claim_headers is not None:
            lines = self.claim_headers.lines(claims)
            if lines is None:
                return INVALID
            headers += lines
        return Identity(user, ",".join(roles), headers, claims, not_before, expires, roles)

    def _roles(self, claims: dict[str, Any]) -> tuple[str, ...] | None:
        """The roles in the claim, the default one where there is none; C{None}: no text."""
        role = claim_of(claims, self.role_claim)
        if role is None or role == "" or (role == [] and self.role_lists):
            role = self.default_role
        if isinstance(role, str):
            return (role,)
        if self.role_lists and isinstance(role, list) and all(isinstance(r, str) for r in role):
            return tuple(dict.fromkeys(role))
        return None

    def _meant(self, claims: dict[str, Any]) -> bool:
        """Issuer and audience, by exact equality (GHSA-75c5-xw7c-p5pm compared by C{in})."""
        if self.issuer and claims.get("iss") != self.issuer:
            return False
        if not self._audiences:
            return True
        audience = claims.get("aud")
        meant = audience if isinstance(audience, list) else [audience]
        return any(isinstance(each, str) and each in self._audiences for each in meant)
