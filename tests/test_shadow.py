"""Tests for gateway.shadow."""

from __future__ import annotations

from gateway.exchange import Exchange
from gateway.shadow import Counts, Shadow
from gateway.verdicts import Reason, Refused


def test_only_its_gates() -> None:
    """Other gates go on refusing, and nothing is noted of them."""
    counts: Counts = {}
    exchange = Exchange()
    assert not Shadow(["ip"], "/a", counts).passes("require", exchange, Refused(Reason.POLICY))
    assert (exchange.detail, counts) == ("", {})


def test_all_is_noted() -> None:
    """Every refusal that was none is in the audit's detail, and counted by route and reason."""
    counts: Counts = {}
    shadows = {route: Shadow(["ip", "ratelimit", "require"], route, counts) for route in ("/a", "/b")}
    for route in ("/a", "/b", "/b"):
        exchange = Exchange()
        assert shadows[route].passes("ip", exchange, Refused(Reason.ADDRESS))
        assert shadows[route].passes("ratelimit", exchange, Refused(Reason.LIMIT, 1, limit="gold 1/60s"))
        assert shadows[route].passes("require", exchange, Refused(Reason.POLICY, detail="require.time"))
        assert exchange.detail == "shadow:address, shadow:limit gold 1/60s, shadow:policy require.time"
        assert exchange.reason == ""
    assert counts[("/a", "address")] == 1
    assert counts[("/b", "limit")] == counts[("/b", "policy")] == 2
