"""The script that counts on the server, with the Python core as its oracle."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.admission.windows import Combined, FixedWindow, Gcra, Rule, SlidingWindow
from gateway.stores.script import Kind, answers, ask, sha, source
from tests.contracts.buckets import NOW, SECOND
from tests.stores.valkey import Valkey, on_a_clock_of_the_tests, reply
from tests.stores.valkey import ask as command

_TIMED = on_a_clock_of_the_tests()
#: The same with the counters' own lives.
_CLOCK = b"local now = tonumber(redis.call('GET', '{clock}'))\n"
_names = itertools.count()


@pytest.fixture(scope="module")
def sock(shared_valkey: Valkey) -> Iterator[socket.socket]:
    """A connection to a server that has both scripts."""
    with socket.socket(socket.AF_UNIX) as found:
        found.connect(str(shared_valkey.path))
        for text in (_TIMED, source(), source(_CLOCK)):
            command(found, "SCRIPT", "LOAD", text)
        yield found


def take(sock: socket.socket, kinds: list[tuple[Kind, list[str]]], now: int, text: bytes = _TIMED) -> list[object]:
    """Ask the script at a time of the test's."""
    command(sock, "SET", "{clock}", now)
    sock.sendall(ask(kinds, sha(text)))
    return list(answers(kinds, reply(sock)))


def rules() -> st.SearchStrategy[Rule]:
    """Rules of every kind, with windows and limits up to the settings' bounds."""
    limits = st.one_of(st.integers(1, 6), st.integers(1, 1_000_000_000))
    lengths = st.one_of(
        st.integers(1, 20).map(lambda n: n * SECOND),
        st.integers(SECOND, 30 * 86400 * SECOND),
    )
    sliding = st.builds(SlidingWindow, limits, lengths)
    fixed = st.builds(FixedWindow, limits, lengths)
    gcra = st.tuples(limits, lengths).flatmap(
        lambda both: st.integers(1, both[0]).map(lambda burst: Gcra(*both, burst))
    )
    one = st.one_of(sliding, fixed, gcra)
    return st.one_of(one, st.lists(one, min_size=2, max_size=4).map(Combined))


def steps(rule: Rule) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Times (differences; the clock may go back) and costs."""
    longest = max(window.window for window in rule.windows)
    return st.lists(
        st.tuples(
            st.one_of(st.just(0), st.integers(0, longest // 8 + 1), st.integers(-longest, 2 * longest)),
            st.one_of(st.integers(1, 3), st.integers(1, 2 * rule.most)),
        ),
        min_size=1,
        max_size=25,
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_script_counts_as_the_core_does(sock: socket.socket, data: st.DataObject) -> None:
    """For every algorithm, cost and set of windows the server says what this process would."""
    rule = data.draw(rules())
    name, now, state = f"sub:{next(_names)}", NOW, None
    for step, cost in data.draw(steps(rule)):
        now += step
        # A refused request leaves no trace on the server, so nor may it in the oracle.
        expected = rule.peek(state, now, cost)
        if expected.allowed:
            state, expected = rule.take(state, now, cost)
        kind = Kind(b"{oracle}", rule, cost)
        assert take(sock, [(kind, [name])], now) == [expected]


def test_many_keys_rules_and_costs_in_one_call(sock: socket.socket) -> None:
    """A turn's requests of different users, routes and costs are told apart."""
    users = [f"sub:{next(_names)}" for _ in range(5)]
    plain, both = SlidingWindow(3, SECOND), Combined([FixedWindow(2, SECOND), Gcra(9, SECOND, 9)])
    asked = [
        (Kind(b"{many}", plain, 1), [users[0], users[0], users[1]]),
        (Kind(b"{many}", plain, 2), [users[0], users[1]]),
        (Kind(b"{many}", both, 1), [users[0], users[1], users[0], users[0]]),
    ]
    found = take(sock, asked, NOW)
    assert [count.allowed for count in found] == [True, True, True, False, True, True, True, True, False]
    assert [count.remaining for count in found] == [2, 1, 2, 0, 0, 1, 1, 0, 0]


def test_the_clock_is_the_servers(sock: socket.socket) -> None:
    """In production the time comes from the server; there is no argument for it."""
    kind = Kind(b"{time}", FixedWindow(5, 3600 * SECOND), 1)
    asked = [(kind, [f"sub:{next(_names)}"])]
    seconds, micros = map(int, command(sock, "TIME"))
    sock.sendall(ask(asked, sha(source())))
    (count,) = answers(asked, reply(sock))
    ends = (seconds * SECOND + micros) // (3600 * SECOND) * 3600 + 3600
    assert count.reset_at in (ends, ends + 3600)
    assert b"now = time[1]" in source()
    assert source().count(b"'TIME'") == 1


def test_counters_go_by_themselves(sock: socket.socket) -> None:
    """A counter lives no longer than its window counts: nobody has to clean up."""
    lives = {}
    for rule in (SlidingWindow(5, 60 * SECOND), FixedWindow(5, 60 * SECOND), Gcra(6, 60 * SECOND, 2)):
        kind, name = Kind(b"{life}", rule, 1), f"sub:{next(_names)}"
        take(sock, [(kind, [name])], NOW + 1, source(_CLOCK))
        counter = kind.prefix + name.encode()
        lives[rule.algorithm] = command(sock, "PTTL", counter)
    assert 60_000 < lives["sliding-window"] <= 63_751
    assert 0 < lives["fixed-window"] <= 60_000
    assert 0 < lives["gcra"] <= 10_001


@pytest.mark.parametrize("bad", [b"", b"x" * 24, 7, None, [1], "text"])
def test_a_reply_of_another_form(bad: object) -> None:
    """What does not look like the script's reply is no count."""
    with pytest.raises(ValueError, match="another form"):
        answers([(Kind(b"{bad}", SlidingWindow(1, SECOND), 1), ["sub:a"])], bad)
