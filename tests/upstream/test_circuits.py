"""Tests for gateway.upstream.circuits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.circuits import Circuit, Circuits
from gateway.verdicts import Reason, Refused


def permit(circuit: Circuit, now: float) -> int:
    """A permit that must be given."""
    found = circuit.admit(now)
    assert isinstance(found, int)
    return found


def opened(failures: int = 3, reset: float = 30.0) -> Circuit:
    """A circuit that has just opened at 100."""
    circuit = Circuit(failures, reset)
    for _ in range(failures):
        circuit.failed(permit(circuit, 100), 100)
    return circuit


def test_opens_after_consecutive_failures_only() -> None:
    """A success between them starts the count anew."""
    circuit = Circuit(3, 30)
    for _ in range(5):
        circuit.failed(permit(circuit, 0), 0)
        circuit.failed(permit(circuit, 0), 0)
        circuit.succeeded(permit(circuit, 0))
    assert circuit.state(0) == "closed"
    assert isinstance(opened().admit(100), Refused)


def test_refusal_says_when() -> None:
    """503 with whole seconds to wait, rounded up."""
    found = opened().admit(100.5)
    assert isinstance(found, Refused)
    assert (found.reason, found.retry_after) == (Reason.CIRCUIT, 30)


def test_exactly_one_trial() -> None:
    """After the rest one request is let through, and no other until it is decided."""
    circuit = opened()
    assert isinstance(circuit.admit(129.9), Refused)
    trial = permit(circuit, 130)
    assert [isinstance(circuit.admit(130), Refused) for _ in range(3)] == [True] * 3
    circuit.succeeded(trial)
    assert circuit.state(130) == "closed"


def test_a_failed_trial_opens_again() -> None:
    """The rest begins anew."""
    circuit = opened()
    circuit.failed(permit(circuit, 130), 131)
    assert isinstance(circuit.admit(160.9), Refused)
    permit(circuit, 161)


def test_an_undecided_trial_frees_its_place() -> None:
    """A client that leaves decides nothing; the next request is the trial."""
    circuit = opened()
    circuit.undecided(permit(circuit, 130))
    trial = permit(circuit, 130)
    assert isinstance(circuit.admit(130), Refused)
    circuit.succeeded(trial)
    assert circuit.state(130) == "closed"


def test_late_results_say_nothing() -> None:
    """Results of requests from before the circuit opened neither close nor extend it."""
    circuit = Circuit(2, 30)
    early = [permit(circuit, 0) for _ in range(4)]
    circuit.failed(early[0], 10)
    circuit.failed(early[1], 10)
    circuit.succeeded(early[2])
    circuit.failed(early[3], 39)
    assert circuit.state(39) == "open"
    trial = permit(circuit, 40)
    circuit.succeeded(early[2])
    assert circuit.state(40) == "half-open"
    circuit.failed(trial, 40)
    assert circuit.state(40) == "open"


def test_one_address_one_circuit() -> None:
    """Routes to one address share a circuit, and the stricter settings hold."""
    circuits = Circuits()
    one = circuits.of(("a", 80), 5, 30)
    assert circuits.of(("a", 80), 3, 10) is one
    assert (one.failures, one.reset_after) == (3, 30)
    assert circuits.of(("a", 81), 5, 30) is not one
    assert circuits.states(0) == {("a", 80): "closed", ("a", 81): "closed"}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ask", "good", "bad", "gone", "wait"]), st.floats(0, 20)), max_size=80))
def test_never_two_trials(events: list[tuple[str, float]]) -> None:
    """Whatever happens in whatever order, half-open never has two requests under way."""
    circuit, now, flying, trials = Circuit(2, 10.0), 0.0, [], []
    for what, amount in events:
        now += amount if what == "wait" else 0
        if what == "ask":
            before = circuit.state(now)
            found = circuit.admit(now)
            assert (before == "open") <= isinstance(found, Refused)
            if isinstance(found, int):
                flying.append(found)
                if before == "half-open":
                    trials.append(found)
        elif flying and what != "wait":
            one = flying.pop(int(amount) % len(flying))
            if one in trials:
                trials.remove(one)
            if what == "good":
                circuit.succeeded(one)
            elif what == "bad":
                circuit.failed(one, now)
            else:
                circuit.undecided(one)
        if circuit.state(now) == "half-open":
            assert len(trials) <= 1
