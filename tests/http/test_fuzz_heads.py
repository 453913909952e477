"""Our parser against h11 and llhttp on mutated heads; tests/bench/fuzz.py is the long run."""

from __future__ import annotations

import random

import pytest

from tests.http.oracles import SEEDS, by_h11, by_llhttp, disagreement, mutate, ours


@pytest.mark.parametrize("seed", [1, 20260101, None])
def test_whatever_one_oracle_refuses_we_refuse(seed: int | None) -> None:
    """No mutated head is read by us in another way than by both independent parsers."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    rng = random.Random(seed)
    found = [wrong for _ in range(7000) if (wrong := disagreement(mutate(rng)))]
    assert found == [], f"seed {seed}"


@pytest.mark.parametrize("head", SEEDS)
def test_the_seeds_pass(head: bytes) -> None:
    """The heads that are mutated are good ones: all three parsers read them."""
    assert ours(head) is not None
    assert by_h11(head) is not None
    assert by_llhttp(head) is not None


def test_the_oracles_can_disagree() -> None:
    """A reading of ours that an oracle refuses would be found."""
    assert by_h11(b"GET / HTTP/1.1\r\nHost : a") is None
    assert by_llhttp(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked") is None
