# -*- test-case-name: tests.routing.test_policy -*-
"""
Who may do what on a route: lets a request through that has the method, the role, the
scopes and the claims that are asked for, from where and when it is allowed; refuses with
405 or 403.

Each requirement is one more that must hold, those for a method beside those for all: none
ever takes another's place, so that adding one never lets anybody in. The method is looked
at first: a 405 with C{Allow} helps whoever is allowed there with another method, and tells
only authenticated users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.admission.addresses import Address, AddressRules
from gateway.admission.identity import Identity, claim_of
from gateway.routing.expression import Expression
from gateway.routing.hours import Hours
from gateway.verdicts import Reason, Refused

_ROLE = Refused(Reason.POLICY, detail="require.role")
_ADDRESS = Refused(Reason.POLICY, detail="require.ip")
_TIME = Refused(Reason.POLICY, detail="require.time")
_EXPRESSION = Refused(Reason.POLICY, detail="require.expr")

#: Methods (RFC 9110, RFC 5789) whose requirements are at hand.
KNOWN = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

#: Verdicts that are kept with an identity; more start anew.
_KEPT = 10

_UNKNOWN: Any = object()

#: (method or empty for all, values)
ByMethod = Sequence[tuple[str, Sequence[str]]]


class Policy:
    """
    @param methods: those that are allowed; empty: all. GET includes HEAD.
    @param roles: of each, any one; a user may have several.
    @param scopes: of each, all, in C{scope} (RFC 8693 section 4.2) or C{scp}.
    @param claims: (method or empty, name, values): the claim is, or is a list that contains,
        one of them.
    @param addresses: where from.
    @ivar open: nothing is asked.
    """

    __slots__ = (
        "_addresses", "_allowed", "_asked", "_by_method", "_expression", "_hours", "_live",
        "_not_allowed", "_rest", "open",
    )  # fmt: skip

    def __init__(
        self,
        methods: Sequence[str] = (),
        roles: ByMethod = (),
        scopes: ByMethod = (),
        claims: Sequence[tuple[str, str, Sequence[str]]] = (),
        addresses: AddressRules | None = None,
        hours: Hours | None = None,
        expression: Expression | None = None,
    ) -> None:
        allowed = [*methods, "HEAD"] if "GET" in methods and "HEAD" not in methods else methods
        line = f"Allow: {', '.join(allowed)}\r\n".encode("ascii")
        self._not_allowed = _Claims((), (), (), Refused(Reason.METHOD, lines=line))
        self._allowed = frozenset(name.encode("ascii") for name in allowed)
        self._addresses = addresses
        self._hours = hours
        self._expression = expression
        self._live = addresses is not None or hours is not None or expression is not None
        self.open = not (methods or roles or scopes or claims or self._live)
        named = {method for method, _ in (*roles, *scopes)} | {method for method, _, _ in claims}
        made = {name: _for(name, roles, scopes, claims) for name in named if name}
        self._rest = _for("", roles, scopes, claims)
        if "GET" in made and "HEAD" not in made:
            made["HEAD"] = made["GET"]  # what may be read may be asked about
        elif "GET" in made:
            made["HEAD"] = _for("HEAD", roles, scopes, claims, also="GET")
        self._asked = {
            name.encode("ascii"): made.get(name, self._rest) for name in (*KNOWN, *made)
        }
        self._by_method = {
            name: asked if not self._allowed or name in self._allowed else self._not_allowed
            for name, asked in self._asked.items()
        }

    def judge(
        self, method: bytes, caller: Identity | None, address: Address | None, now: float,
        path: bytes = b"/",
    ) -> Refused | None:  # fmt: skip
        """
        C{None}, or why not.

        @param caller: who; C{None} on a route that asks for no token.
        @param now: unix seconds.
        """
        asked = self._by_method.get(method) or self._unusual(method)
        if caller is None:
            verdict = asked.judge((), {})
        else:
            # Claims never change: what was said of this user stays said.
            memo = caller.verdicts
            if memo is None:
                memo = caller.verdicts = {}
            verdict = memo.get(asked, _UNKNOWN)
            if verdict is _UNKNOWN:
                verdict = asked.judge(caller.roles, caller.claims)
                if len(memo) >= _KEPT:
                    memo.clear()
                memo[asked] = verdict
        if verdict is not None or not self._live:
            found: Refused | None = verdict
            return found
        return self._here_and_now(method, caller, address, now, path)

    def _unusual(self, method: bytes) -> _Claims:
        if self._allowed and method not in self._allowed:
            return self._not_allowed
        # A service may take "post" for POST: what is asked of the one is asked of the other.
        return self._asked.get(method.upper(), self._rest)

    def _here_and_now(
        self, method: bytes, caller: Identity | None, address: Address | None, now: float,
        path: bytes,
    ) -> Refused | None:  # fmt: skip
        if self._addresses is not None and not self._addresses.admits(address):
            return _ADDRESS
        if self._hours is not None and not self._hours.open(now):
            return _TIME
        if self._expression is None:
            return None
        claims = caller.claims if caller is not None else {}
        true = self._expression.true(
            claims=claims,
            user=caller.user if caller is not None else "",
            role=caller.role if caller is not None else "",
            roles=list(caller.roles) if caller is not None else [],
            scopes=sorted(scopes_of(claims)),
            method=method,
            path=path,
            ip=address.text if address is not None else "unknown",
            now=now,
        )
        return None if true else _EXPRESSION


class _Claims:
    """
    What is asked of the claims of requests with one method.

    @ivar never: the refusal of all; such a method is not allowed.
    """

    __slots__ = ("_claims", "_no_scope", "_roles", "_scopes", "never")

    def __init__(
        self,
        roles: Sequence[Sequence[str]],
        scopes: Sequence[Sequence[str]],
        claims: Sequence[tuple[str, Sequence[str]]],
        never: Refused | None = None,
    ) -> None:
        self._roles = tuple(map(frozenset, roles))
        wanted = list(dict.fromkeys(scope for each in scopes for scope in each))
        self._scopes = frozenset(wanted)
        self._no_scope = Refused(
            Reason.POLICY, lines=insufficient_scope(wanted), detail="require.scope"
        )
        self._claims = tuple(
            (name, frozenset(values), Refused(Reason.POLICY, detail=f"require.claim.{name}"))
            for name, values in claims
        )
        self.never = never

    def judge(self, roles: Sequence[str], claims: dict[str, Any]) -> Refused | None:
        """C{None}, or why not."""
        if self.never is not None:
            return self.never
        for each in self._roles:
            if each.isdisjoint(roles):
                return _ROLE
        if self._scopes and not self._scopes <= scopes_of(claims):
            return self._no_scope
        for name, values, refused in self._claims:
            if not _matches(claim_of(claims, name), values):
                return refused
        return None


def _for(
    method: str,
    roles: ByMethod,
    scopes: ByMethod,
    claims: Sequence[tuple[str, str, Sequence[str]]],
    also: str = "",
) -> _Claims:
    """What is asked of a method: what is asked of all, and of itself."""
    holding = ("", method, also)
    return _Claims(
        [values for name, values in roles if name in holding],
        [values for name, values in scopes if name in holding],
        [(claim, values) for name, claim, values in claims if name in holding],
    )


def insufficient_scope(scopes: Sequence[str]) -> bytes:
    """The WWW-Authenticate line of a 403 for want of scopes (RFC 6750 section 3.1)."""
    text = " ".join(scopes).encode("ascii")
    return (
        b'WWW-Authenticate: Bearer realm="gateway", error="insufficient_scope", '
        b'scope="%s"\r\n' % text
    )


def scopes_of(claims: dict[str, Any]) -> set[str]:
    """The token's scopes."""
    value = claims.get("scope", claims.get("scp"))
    if isinstance(value, str):
        return set(value.split(" "))
    if isinstance(value, list):
        return {each for each in value if isinstance(each, str)}
    return set()


def _matches(value: object, wanted: frozenset[str]) -> bool:
    """Text equals text, a number its usual spelling; anything else never matches."""
    if isinstance(value, list):
        return any(_matches(each, wanted) for each in value if not isinstance(each, list))
    if isinstance(value, bool):
        return ("true" if value else "false") in wanted
    return isinstance(value, str | int) and str(value) in wanted
