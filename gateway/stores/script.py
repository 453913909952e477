# -*- test-case-name: tests.stores.test_script -*-
"""
What is said to the script that counts on the server (C{buckets.lua}), and what its reply
means. Lets a reply in that is as long as the question asks for; refuses any other with
L{ValueError}. Bytes in, bytes out: no connection here.

The script decides and keeps the state; what a client is told is worked out here, with the
very numbers of L{gateway.admission.windows}. It knows only the server's C{TIME}: there is no
argument by which a caller could set the clock. Tests, which must, put another first line
before the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

from gateway.admission.windows import PARTS, Count, Gcra, SlidingWindow

_SECOND = 1_000_000
_NOW = struct.Struct("<q")
_RECORD = struct.Struct("<bqq")

#: The first line: the server's own clock.
CLOCK = b"local time = redis.call('TIME')\nlocal now = time[1] * 1000000 + time[2]\n"

#: Before every counter's name; changes with the form of what is kept there.
FORM = b":1:"


def source(clock: bytes = CLOCK) -> bytes:
    """The script's text."""
    return clock + Path(__file__).with_name("buckets.lua").read_bytes()


def looking(script: bytes) -> bytes:
    """The same script without its one command that writes: it says what counting would say."""
    writes, looks = b"if all then\n    call('SET'", b"if false then\n    call('SET'"
    if script.count(writes) != 1 or script.count(b"call('") != 3:
        raise AssertionError("the script is another than this knows")
    return script.replace(writes, looks)


def sha(text: bytes) -> bytes:
    """A script's name on the server."""
    return sha1(text, usedforsecurity=False).hexdigest().encode("ascii")


def bulk(value: bytes) -> bytes:
    """An argument in the server's protocol (RESP)."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def command(*arguments: bytes) -> bytes:
    """A command in the server's protocol."""
    return b"*%d\r\n" % len(arguments) + b"".join(map(bulk, arguments))


class Kind:
    """
    One rule at one cost, as the script is told of it.

    @param tag: the gateway's name in braces: all counters of it share one slot.
    @ivar keys: the counters asked for since the last turn.
    @ivar waiters: who waits for them, in the same order.
    """

    __slots__ = ("_windows", "cost", "keys", "prefix", "rule", "size", "spec", "waiters", "words")

    def __init__(self, tag: bytes, rule: Any, cost: int) -> None:
        self.rule = rule
        self.cost = cost
        self.prefix = tag + FORM + rule.id + b":"
        words = [b"%d" % cost, b"%d" % len(rule.windows)]
        for window in rule.windows:
            words += _words(window, cost)
        self.words = len(words) + 1
        self.spec = b"".join(map(bulk, words))
        self.size = len(rule.windows) * _RECORD.size
        self._windows: tuple[Callable[[int, int, int], Count], ...] = tuple(
            _reader(window) for window in rule.windows
        )
        self.keys: list[str] = []
        self.waiters: list[Any] = []

    def counter(self, key: str) -> bytes:
        """The name of a user's counter as an argument."""
        name = self.prefix + key.encode("utf-8", "surrogatepass")
        return b"$%d\r\n%b\r\n" % (len(name), name)

    def count(self, reply: bytes, at: int, now: int) -> Count:
        """What became of the key whose records begin there."""
        if len(self._windows) == 1:
            how, first, second = _RECORD.unpack_from(reply, at)
            if how:
                return self._windows[0](first, second, now)
            return _refused(self.rule.windows[0], first, now)
        allowed, refused = [], []
        for window, reads in zip(self.rule.windows, self._windows, strict=True):
            how, first, second = _RECORD.unpack_from(reply, at)
            at += _RECORD.size
            if how == 1:
                allowed.append(reads(first, second, now))
            elif how == 0:
                refused.append(_refused(window, first, now))
        return chosen(allowed, refused)


def chosen(allowed: list[Count], refused: list[Count]) -> Count:
    """Of several windows the one that is told, as L{gateway.admission.windows.Combined} does."""
    if refused:
        return max(refused, key=lambda count: (count.retry_after, count.reset_at))
    return min(allowed, key=lambda count: count.remaining / count.window.most)


def ask(parts: list[tuple[Kind, list[str]]], name: bytes) -> bytes:
    """The command for all keys of a turn."""
    total = sum(len(keys) for _, keys in parts)
    words = sum(kind.words for kind, _ in parts)
    pieces = [b"*%d\r\n$7\r\nEVALSHA\r\n" % (3 + total + words), bulk(name), bulk(b"%d" % total)]
    for kind, keys in parts:
        pieces += map(kind.counter, keys)
    for kind, keys in parts:
        pieces += (bulk(b"%d" % len(keys)), kind.spec)
    return b"".join(pieces)


def answers(parts: list[tuple[Kind, list[str]]], reply: Any) -> list[Count]:
    """The counts of all keys of a turn, in order."""
    expected = _NOW.size + sum(kind.size * len(keys) for kind, keys in parts)
    if type(reply) is not bytes or len(reply) != expected:
        raise ValueError("the script's reply has another form")
    (now,) = _NOW.unpack_from(reply, 0)
    at, counts = _NOW.size, []
    for kind, keys in parts:
        size, count = kind.size, kind.count
        for _ in keys:
            counts.append(count(reply, at, now))
            at += size
    return counts


def _up(microseconds: int) -> int:
    return -(-microseconds // _SECOND)


def _refused(window: Any, at: int, now: int) -> Count:
    return Count(False, window, 0, _up(at), max(1, _up(at - now)))


def _words(window: Any, cost: int) -> list[bytes]:
    """A window's kind and numbers."""
    if isinstance(window, SlidingWindow):
        return [b"s", b"%d" % window.limit, b"%d" % window.part]
    if isinstance(window, Gcra):
        step = divmod(window.window * cost, window.limit)
        tolerance = divmod(window.window * window.burst, window.limit)
        return [b"g", b"%d" % window.limit, *(b"%d" % each for each in (*step, *tolerance))]
    return [b"f", b"%d" % window.limit, b"%d" % window.window]


def _reader(window: Any) -> Callable[[int, int, int], Count]:
    """From the script's numbers to a count that passed."""
    limit = window.limit
    if isinstance(window, SlidingWindow):
        part = window.part

        def sliding(total: int, latest: int, _now: int) -> Count:
            reset_at = -(-(latest + PARTS + 1) * part // _SECOND)
            return Count(True, window, limit - total, reset_at, 0, False)

        return sliding
    if isinstance(window, Gcra):

        def gcra(whole: int, rest: int, now: int) -> Count:
            free = whole * limit + rest
            room = now * limit + window.window * window.burst - free
            return Count(True, window, room // window.window, _up(-(-free // limit)))

        return gcra

    def fixed(counted: int, index: int, _now: int) -> Count:
        return Count(True, window, limit - counted, _up((index + 1) * window.window))

    return fixed
