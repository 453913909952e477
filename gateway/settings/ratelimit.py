# -*- test-case-name: tests.settings.test_reader -*-
"""How much a user may ask for, and where that is counted: [ratelimit]."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.limits import COST_TYPE, LIMIT, WINDOW, WINDOWS
from gateway.settings.option import (
    TEXT,
    YES_NO,
    BadValue,
    Declared,
    Option,
    Type,
    choice,
    duration,
    integer,
    mode,
)
from gateway.stores.url import StoreAddress, parse_url


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """
    [ratelimit], or what holds of it for a route or a plan.

    @ivar limits: (limit, seconds) of each window, the shortest first; empty: there is one, of
        C{limit} and C{window}.
    @ivar costs: (method, cost) where it is not C{cost}.
    @ivar refused: as C{limits}; empty: no such limit.
    @ivar store: C{memory}, or the address of a shared one.
    """

    limit: int
    window: float
    limits: tuple[tuple[int, float], ...]
    algorithm: str
    burst: int
    key: str
    cost: int
    costs: tuple[tuple[str, int], ...]
    plan_claim: str
    keys: int
    refused: tuple[tuple[int, float], ...]
    refused_keys: int
    ietf_headers: bool
    store: str | StoreAddress
    store_timeout: float
    store_connections: int
    store_ca_file: str
    on_store_failure: str
    machines: int
    mode: str

    @property
    def windows(self) -> tuple[tuple[int, float], ...]:
        """(limit, seconds) of each window."""
        return self.limits or ((self.limit, self.window),)


def _store(text: str) -> str | StoreAddress:
    if text in ("auto", "memory", "embedded"):
        return text
    try:
        return parse_url(text)
    except ValueError as error:
        raise BadValue(f"auto, memory, embedded, {error}") from None


RATELIMIT: Declared = ("How much a user may ask for.", (
    Option("limit", LIMIT, "100", "Requests in a window.", "1000"),
    Option("window", WINDOW, "60s", "The window.", "1h"),
    Option("limits", WINDOWS, "",
           "Several windows at once, instead of limit and window: a request passes only if "
           "each has room, and then counts in each; a refused one counts in none. "
           "X-RateLimit-* tells of the window that refuses (the one that has room last), else "
           "of the one with the least remaining. Default: limit and window alone.",
           "10/1s, 100/60s, 5000/1d"),
    Option("algorithm", choice("sliding-window", "fixed-window", "gcra"), "sliding-window",
           "sliding-window: no span of window seconds, wherever it begins, lets more than limit "
           "pass. fixed-window: limit in each window of the clock, so up to twice that across a "
           "boundary. gcra: one every window/limit, burst at once: at most burst + "
           "span*limit/window in any span."),
    Option("burst", LIMIT, "10", "gcra only: how many at once, in each window."),
    Option("key", TEXT, "sub",
           "Whose requests are counted together: a claim of the token, or ip (IPv6 by /64). A "
           "token without that claim is refused.", "tenant"),
    Option("cost", COST_TYPE, "1",
           "How many requests one counts as; cost.METHOD (cost.POST = 5) where a method's "
           "is another. A route with a cost of its own and no other ratelimit option "
           "still counts in the common counter; costs of its own replace all common ones.",
           "5"),
    Option("plan_claim", TEXT, "",
           "The claim that names the token's plan: [plan gold] holds for a token whose claim "
           "says gold, with a counter of its own for each plan. Without the claim, or with "
           "one that no section names, the common limit holds; a route with a limit of its "
           "own keeps it whatever the plan. Default: no plans.", "plan", per_route=False),
    Option("keys", integer(1, 100_000_000), "1000000",
           "Counters kept in memory, about 250 bytes each. When full, a new key is refused and "
           "counted; no live one is forgotten.", per_route=False),
    Option("refused", WINDOWS, "",
           "How many refused tokens an address may send (IPv6 by /64). Beyond that, its tokens "
           "that have not been verified before get 429 unverified until the window has "
           "room again; those in the cache of verified tokens go on. Counted in each process "
           "by itself, always as sliding windows. Default: no such limit.", "30/60s",
           per_route=False),
    Option("refused_keys", integer(1, 100_000_000), "100000",
           "Addresses with refused tokens remembered. When full, those of a new address are "
           "verified and not counted.", per_route=False),
    Option("ietf_headers", YES_NO, "yes",
           "Whether answers have RateLimit and RateLimit-Policy "
           "(draft-ietf-httpapi-ratelimit-headers) beside X-RateLimit-*.", "no",
           per_route=False),
    Option("store", Type(_store, "auto, memory, embedded, or a URL"), "auto",
           "Where counters live. memory: in this process. embedded: in a Valkey of the "
           "gateway's own, for several workers. auto: memory for one worker, embedded for "
           "more. Or a Redis or Valkey that several machines share: redis://HOST:6379/0, "
           "rediss:// with TLS, unix:///PATH?db=0, redis+sentinel://HOST,HOST/SERVICE/0, each "
           "with USER:PASSWORD@ or :PASSWORD@ before the host, percent-encoded.",
           "rediss://gateway:${STORE_PASSWORD}@valkey.internal",
           "One server's time and memory serve all: a cluster serves as one shard. Who can "
           "write there sets everybody's limits: give it a password, and TLS across a "
           "network.", per_route=False, restart=True, secret=True),
    Option("store_timeout", duration(0.005, 10), "50ms",
           "A request whose count does not come in time is decided by on_store_failure; so are "
           "those after it, at once, until the store answers again.", "20ms",
           per_route=False, restart=True),
    Option("store_connections", integer(1, 64), "1",
           "Connections to the store from each process. All requests of a moment share one "
           "call, so one is enough unless the network is slow.", "2",
           per_route=False, restart=True),
    Option("store_ca_file", TEXT, "",
           "rediss:// only: PEM file of the authorities that may vouch for the store's host "
           "name. Default: the system's.", "/etc/ssl/internal-ca.pem",
           per_route=False, restart=True),
    Option("on_store_failure", choice("local", "open", "closed"), "local",
           "While the store can't be asked: local counts in this process, inexactly, with its "
           "share of the limit (see machines); open lets everything pass; closed refuses with "
           "503. The audit's reason tells of each request so decided. Memory never fails."),
    Option("machines", integer(1, 1000), "1",
           "How many machines share the store. While it can't be asked and on_store_failure "
           "is local, each process lets its share pass: limit divided by workers and machines, "
           "at least 1. Of no use without a shared store.", "3", per_route=False),
    mode("what exceeds a limit, or can't be counted,"),
))  # fmt: skip
