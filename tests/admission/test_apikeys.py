"""Tests for gateway.admission.apikeys: what a key is, how it stands in the file, and who comes in by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.apikeys import (
    EXPIRED,
    MAX_LIMITS,
    UNKNOWN,
    Key,
    KeyRules,
    Keys,
    digest_of,
    is_key,
    new_key,
    read_line,
    read_lines,
)
from gateway.admission.identity import Identity, field_text
from gateway.admission.key_limits import OWNER, KeyLimits
from gateway.admission.windows import Combined, SlidingWindow

NOW = 1_700_000_000.0
RAW = new_key()


def keys(*found: Key, **rules: str) -> Keys:
    """A file with these keys."""
    return Keys.read("\n".join(key.line for key in found), KeyRules(**rules))


def key(**more: object) -> Key:
    """The key C{RAW} of alice."""
    return Key(**{"name": "ci", "digest": digest_of(RAW.encode()), "user": "alice", **more})  # type: ignore[arg-type]


def test_a_key_s_form() -> None:
    """Keys begin with gwk_, are never the same, and a mistyped one is seen by its checksum."""
    made = {new_key() for _ in range(200)}
    assert len(made) == 200
    assert all(is_key(each.encode()) and len(each) == 53 and each.startswith("gwk_") for each in made)
    wrong = ("A" if RAW[10] != "A" else "B")
    assert not is_key((RAW[:10] + wrong + RAW[11:]).encode())


def test_who_comes_in() -> None:
    """A key on file is its user, with role, scopes and plan as claims; a key of one letter more or less is nobody's."""
    ring = keys(key(role="admin", scopes=("a:read", "a:write"), plan="gold"), plan_claim="tier")
    found = ring.identify(RAW.encode(), NOW)
    assert isinstance(found, Identity)
    assert found.headers == b"X-User-ID: alice\r\nX-User-Role: admin\r\n"
    assert found.claims == {"sub": "alice", "role": "admin", "key": "ci", "scope": "a:read a:write", "tier": "gold"}
    assert found.rate is None
    for raw in (RAW[:-1], RAW + "A", RAW.lower(), "", new_key()):
        assert ring.identify(raw.encode(), NOW) is UNKNOWN
    assert ring.identify(RAW.encode(), NOW) is found


def test_defaults() -> None:
    """Without a role a key has the default one; its plan is no claim where there are no plans."""
    found = keys(key(plan="gold"), default_role="guest").identify(RAW.encode(), NOW)
    assert isinstance(found, Identity)
    assert (found.role, "plan" in found.claims) == ("guest", False)


def test_limits() -> None:
    """A key's own limits are one rule, the same one for all keys that have the same, in any file."""
    made = KeyLimits(lambda windows: Combined([SlidingWindow(limit, int(seconds * 1e6), OWNER) for limit, seconds in windows]))
    rules = KeyRules(limits=made)
    windows = ((10, 60.0), (50, 3600.0))
    rates = []
    for _ in range(2):
        found = Keys.read(key(limits=windows).line, rules).identify(RAW.encode(), NOW)
        assert isinstance(found, Identity)
        rates.append(found.rate)
        assert found.telling(b"").rate is found.rate
    assert rates[0] is rates[1]
    assert rates[0].windows[0].name == "key 10/60s"
    made.keep({windows})
    assert made.all() == {rates[0]}
    made.keep(set())
    assert made.all() == set()


def test_too_many_limits() -> None:
    """A file that asks for a thousand tables of counters is refused at the line that is one too many."""
    lines = [f"k{number} sha256={number:064x} user=u limits={number + 1}/60s" for number in range(MAX_LIMITS + 1)]
    assert len(list(read_lines("\n".join(lines[:MAX_LIMITS])))) == MAX_LIMITS
    with pytest.raises(ValueError, match=f"line {MAX_LIMITS + 1}: more than"):
        list(read_lines("\n".join(lines)))


def test_expiry() -> None:
    """A key is refused from its last moment on, also when it has been used before."""
    ring = keys(key(expires=NOW))
    assert isinstance(ring.identify(RAW.encode(), NOW - 0.001), Identity)
    assert ring.identify(RAW.encode(), NOW) is EXPIRED


def test_nothing_secret_shows() -> None:
    """Neither keys nor digests are in a repr, and the file holds no key."""
    ring = keys(key())
    shown = repr(ring) + repr(key())
    assert RAW not in shown
    assert digest_of(RAW.encode()).hex() not in shown
    assert RAW not in key().line


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
TEXTS = st.text(min_size=1, max_size=40).filter(lambda text: field_text(text) is not None)


@given(NAMES, TEXTS, st.just("") | TEXTS, st.lists(TEXTS.filter(lambda t: " " not in t), max_size=4),
       st.just(float("inf")) | st.integers(0, 4_000_000_000).map(float), st.just("") | NAMES,
       st.just(()) | st.tuples(st.tuples(st.integers(1, 100), st.integers(1, 3600).map(float)), st.tuples(st.integers(101, 999), st.just(86400.0))))  # fmt: skip
def test_lines_round_trip(
    name: str, user: str, role: str, scopes: list[str], expires: float, plan: str, limits: tuple[tuple[int, float], ...]
) -> None:
    """What is written of a key is read again as the same, whatever its names have in them."""
    made = Key(name, digest_of(name.encode()), user, role, tuple(scopes), expires, plan if not limits else "", limits)
    assert read_line(made.line) == made
    assert "\n" not in made.line


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Whatever a file holds, it is read or refused; never with its content in the message."""
    try:
        list(read_lines("marker " + text))
    except ValueError as error:
        assert "marker" not in str(error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("ci ", "c/i "), "a name"), (("sha256=", "sha1="), "sha256="), (("user=alice", ""), "user="),
        (("user=alice", "user=a%0Ab"), "user="), (("user=alice", "user=alice user=bob"), "twice"),
        (("user=alice", "user=alice colour=red"), "expected"), (("user=alice", "user=alice expires=soon"), "2027"),
        (("user=alice", "user=alice role=%00"), "role="), (("user=alice", "user=alice scopes=a%20b"), "scope"),
        (("user=alice", "user=alice admin"), "expected"), (("user=alice", "user=alice limits=100"), "limits=: expected up to 8 windows"),
        (("user=alice", "user=alice limits=5/60s,10/1s"), "limits=: expected"), (("user=alice", "user=alice limits=,"), "limits=: expected"),
        (("user=alice", "user=alice limits=5/60s plan=gold"), "not both"), (("user=alice", "user=alice limits=0/60s"), "limits="),
    ],
)  # fmt: skip
def test_lines_that_are_wrong(change: tuple[str, str], says: str) -> None:
    """A line that is wrong is told by its number and what was expected; no digest is told."""
    line = key().line.replace(*change)
    with pytest.raises(ValueError, match=says) as error:
        list(read_lines(f"# keys\n\n{line}\n"))
    assert str(error.value).startswith("line 3: ")
    assert key().digest.hex() not in str(error.value)


def test_twice() -> None:
    """Two keys of one name, and one key under two names, are refused."""
    with pytest.raises(ValueError, match="line 2: there is a key ci already"):
        list(read_lines(f"{key().line}\n{key(digest=b'x' * 32).line}"))
    with pytest.raises(ValueError, match="line 2: this key stands there twice"):
        list(read_lines(f"{key().line}\n{key(name='other').line}"))
