# -*- test-case-name: tests.upstream.test_circuits -*-
"""
Lets requests through to an upstream address while it works; refuses with 503 once it
has failed several times in a row, until one trial has succeeded.

Sans-IO: time is an argument, monotonic seconds. A permit is the generation of the
circuit that gave it: a result that arrives late, from a generation that has passed,
says nothing about the present and is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from gateway.verdicts import Reason, Refused


class Circuit:
    """
    One address's circuit: closed, open, or half-open with one trial.

    @ivar failures: consecutive ones that open it.
    @ivar reset_after: seconds it stays open before a trial.
    @ivar opened: how often failures in this process have opened it.
    @ivar clear: while it is closed and nothing has failed, the permit that L{admit} gives; a
        success changes nothing then, and need not be told.
    """

    __slots__ = (
        "_counted", "_generation", "_open_until", "_trial", "clear", "failures", "opened",
        "reset_after",
    )  # fmt: skip

    def __init__(self, failures: int, reset_after: float) -> None:
        self.failures = failures
        self.reset_after = reset_after
        self.opened = 0
        self._counted = 0
        self._generation = 0
        self._open_until: float | None = None
        self._trial = False
        self.clear: int | None = 0

    def admit(self, now: float) -> int | Refused:
        """A permit, to be given back with the result once; or the refusal."""
        if self._open_until is None:
            return self._generation
        if now < self._open_until:
            return Refused(Reason.CIRCUIT, max(1, ceil(self._open_until - now)))
        if self._trial:
            return Refused(Reason.CIRCUIT, 1)
        self._trial = True
        self._generation += 1
        return self._generation

    def succeeded(self, permit: int) -> None:
        """The upstream answered: the circuit is closed, failures are forgotten."""
        if permit != self._generation:
            return
        if self._open_until is None or self._trial:
            self._open_until = None
            self._trial = False
            self._counted = 0
            self.clear = permit

    def failed(self, permit: int, now: float) -> None:
        """The upstream refused, broke off, timed out, or answered one of the statuses."""
        if permit != self._generation:
            return
        if self._open_until is None:
            self.clear = None
            self._counted += 1
            if self._counted >= self.failures:
                self._open(now)
        elif self._trial:
            self._open(now)

    def undecided(self, permit: int) -> None:
        """Nobody knows: the client left, or we refused. A trial's place is free again."""
        if permit == self._generation and self._trial:
            self._trial = False
            self._generation += 1

    def state(self, now: float) -> str:
        """C{closed}, C{open} or C{half-open}, for people."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def opened_elsewhere(self, seconds: float, now: float) -> None:
        """Another process saw it fail: it is open here as well, until a trial of our own."""
        if self._open_until is None:
            self._rest(now + min(seconds, self.reset_after))

    def left(self, now: float) -> float:
        """Seconds until it lets a trial through; 0 when it does, or is closed."""
        return max(0.0, self._open_until - now) if self._open_until is not None else 0.0

    def _open(self, now: float) -> None:
        self.opened += 1
        self._rest(now + self.reset_after)

    def _rest(self, until: float) -> None:
        self.clear = None
        self._open_until = until
        self._trial = False
        self._counted = 0
        self._generation += 1


class Circuits:
    """
    The circuits of all addresses; targets with one address share theirs.

    Where routes to one address differ, the stricter word holds: the fewest failures, the
    longest rest.

    @param before: those of the configuration before: an address that was there keeps its
        circuit, which goes by its old numbers until L{hold}.
    """

    def __init__(self, before: Circuits | None = None) -> None:
        self._circuits: dict[tuple[str, int], Circuit] = {}
        self._numbers: dict[tuple[str, int], tuple[int, float]] = {}
        self._before = dict(before._circuits) if before is not None else {}

    def of(self, address: tuple[str, int], failures: int, reset_after: float) -> Circuit:
        """The circuit of (host, port)."""
        circuit = self._circuits.get(address) or self._before.get(address)
        if circuit is None:
            circuit = Circuit(failures, reset_after)
        self._circuits[address] = circuit
        fewest, longest = self._numbers.get(address, (failures, reset_after))
        numbers = self._numbers[address] = min(fewest, failures), max(longest, reset_after)
        if address not in self._before:
            circuit.failures, circuit.reset_after = numbers
        return circuit

    def hold(self) -> None:
        """The configuration before has gone: all circuits go by these numbers."""
        self._before = {}
        for address, circuit in self._circuits.items():
            circuit.failures, circuit.reset_after = self._numbers[address]
    def opened_elsewhere(self, address: tuple[str, int], seconds: float, now: float) -> None:
        """See L{Circuit.opened_elsewhere}; an address that leads nowhere here is ignored."""
        circuit = self._circuits.get(address)
        if circuit is not None:
            circuit.opened_elsewhere(seconds, now)

    def each(self) -> Iterable[tuple[tuple[str, int], Circuit]]:
        """All of them, by address."""
        return self._circuits.items()

    def states(self, now: float) -> dict[tuple[str, int], str]:
        """Every address's state."""
        return {address: circuit.state(now) for address, circuit in self._circuits.items()}
