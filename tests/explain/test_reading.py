"""Tests for gateway.explain.reading: who only looks uses nothing up."""

from __future__ import annotations

from gateway.admission.replays import Replays, replay_rule
from gateway.explain.reading import ReadingReplays

NOW = 1_700_000_000_000_000


def test_a_proof_that_is_looked_at_is_still_new() -> None:
    """Explaining a request uses up neither its proof nor its user's share of the memory."""
    replays = Replays(replay_rule(60.0), 100)
    looking = ReadingReplays(replays)
    assert looking.take("a", "ann", NOW).allowed
    assert looking.take("a", "ann", NOW).allowed
    assert replays.local.size() == 0
    assert replays.take("a", "ann", NOW).allowed
    assert not looking.take("a", "ann", NOW).allowed
