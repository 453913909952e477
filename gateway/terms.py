# -*- test-case-name: tests.test_terms -*-
"""
The effective rules for a request: one object per route, and one for requests that no
route takes.

Every stage asks the terms of the request's route, so that an option overridden for one
route is overridden in every stage alike. Rules that a route does not override are the
very objects of all the others: counters and caches are shared by identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.admission.addresses import AddressRules
from gateway.admission.identity import IdentityRules, IIdentityRules
from gateway.admission.origins import CorsRules
from gateway.admission.takes import Takes
from gateway.exchange import TRAILERS
from gateway.http.fields import FieldRules
from gateway.routing.policy import Policy
from gateway.shadow import Shadow

if TYPE_CHECKING:
    from gateway.assertion.signer import Assertion
    from gateway.upstream.targets import Target

#: [body] max_size when nobody says otherwise: the contract's 10 MiB.
MAX_BODY = 10 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Terms:
    """
    The rules of one route.

    @ivar route: the prefix, or the empty string where no route was found.
    @ivar rate: the limiter's rule; shared by identity with all who share its counters.
    @ivar rate_key: C{ip}, C{sub} or another claim's name.
    @ivar own_counter: whether it is the route's own limit, which takes the place of all others.
    @ivar plan_claim: the claim that names the token's plan; empty: there are none here.
    @ivar plans: the plans' rules, by name.
    @ivar cost: how many requests one counts as.
    @ivar costs: the same by method, where it is not C{cost}.
    @ivar by_sub: the common case: one rule, cost 1, counted by C{sub}.
    @ivar takes: the credentials and proofs; C{None}: bearer tokens.
    @ivar max_body: bytes.
    @ivar target: where to forward to; C{None} where no route was found.
    @ivar public: no token is asked for; nobody says who calls.
    @ivar trailers: which fields behind a body go on, either way.
    @ivar shadow: the gates that only say what they would refuse; C{None}: all enforce.
    @ivar assertion: what the upstream is told, signed; C{None}: nothing.
    """

    route: str = ""
    addresses: AddressRules = field(default_factory=lambda: AddressRules((), ()))
    cors: CorsRules | None = None
    identity: IIdentityRules = field(default_factory=IdentityRules)
    rate: Any = None
    rate_key: str = "sub"
    own_counter: bool = False
    plan_claim: str = ""
    plans: Mapping[str, Any] = field(default_factory=dict)
    cost: int = 1
    costs: Mapping[bytes, int] = field(default_factory=dict)
    by_sub: bool = field(init=False)
    policy: Policy | None = None
    takes: Takes | None = None
    max_body: int = MAX_BODY
    target: Target | None = None
    public: bool = False
    trailers: FieldRules = TRAILERS
    shadow: Shadow | None = None
    assertion: Assertion | None = None

    def __post_init__(self) -> None:
        self.by_sub = (
            self.rate_key == "sub" and not self.plans and not self.costs and self.cost == 1
        )
