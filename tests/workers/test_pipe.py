"""Messages and descriptors between a supervisor and a worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.pipe import MOST, ROOM, Frames, Message, Pipe, frame, receive


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=5), st.integers(1, 40))
def test_frames(messages: list[Message], step: int) -> None:
    """Messages come out as they went in, however the bytes are cut."""
    messages = [{**each, "fds": 0} for each in messages]
    raw = b"".join(frame(each) for each in messages)
    frames = Frames()
    found = [
        message for at in range(0, len(raw), step) for message, _ in frames.feed(raw[at : at + step], ())
    ]
    assert found == messages


def test_a_message_that_is_too_long() -> None:
    """A length beyond the bound is refused before any of it is kept."""
    with pytest.raises(ValueError, match="too long"):
        list(Frames().feed((MOST + 1).to_bytes(4, "big"), ()))


class Reactor:
    """Knows who wants to read and to write."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class End:
    """One end of a pipe, and what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self.reactor = Reactor()
        self.messages: list[tuple[Message, list[int]]] = []
        self.lost = 0
        self.pipe = Pipe(self.reactor, sock, lambda *told: self.messages.append(told), self._lost)

    def _lost(self) -> None:
        self.lost += 1


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    """Both ends."""
    both = tuple(End(sock) for sock in socket.socketpair())
    yield both  # type: ignore[misc]
    for end in both:
        end.pipe.close()
        assert not end.reactor.readers
        assert not end.reactor.writers


def test_descriptors_travel(ends: tuple[End, End]) -> None:
    """A descriptor comes with its message, as another number of the same file, closed on exec."""
    one, two = ends
    read, write = os.pipe()
    assert one.pipe.send({"kind": "a"}, [write])
    assert one.pipe.send({"kind": "b"})
    os.close(write)
    while len(two.messages) < 2:
        two.pipe.doRead()
    (first, fds), (second, none) = two.messages
    assert (first["kind"], second["kind"], none) == ("a", "b", [])
    assert not os.get_inheritable(fds[0])
    os.write(fds[0], b"x")
    assert os.read(read, 2) == b"x"
    os.close(fds[0])
    os.close(read)


def test_the_other_end_is_gone(ends: tuple[End, End]) -> None:
    """Its end is told once, after everything it has said."""
    one, two = ends
    one.pipe.send({"kind": "last words"})
    one.pipe.close()
    two.pipe.doRead()
    two.pipe.doRead()
    two.pipe.doRead()
    assert [message for message, _ in two.messages] == [{"kind": "last words"}]
    assert two.lost == 1
    assert not two.pipe.send({"kind": "nobody hears"})


def test_one_that_does_not_read(ends: tuple[End, End]) -> None:
    """Messages wait while the other end does not read, up to a bound; nothing of what was taken is lost."""
    one, two = ends
    text = "x" * 60_000
    sent = 0
    while one.pipe.send({"n": sent, "text": text}):
        sent += 1
    assert ROOM // 60_100 <= sent < ROOM // 60_000 + 20
    assert one.reactor.writers == {one.pipe}
    while len(two.messages) < sent:
        one.pipe.doWrite()
        two.pipe.doRead()
    assert [message["n"] for message, _ in two.messages] == list(range(sent))
    assert one.reactor.writers == set()
    assert one.pipe.send({"n": -1})


def test_messages_that_came_together(ends: tuple[End, End]) -> None:
    """A message that came with one that was read before the reactor ran is not forgotten."""
    one, two = socket.socketpair()
    one.sendall(frame({"n": 1}) + frame({"n": 2}))
    frames = Frames()
    first = next(iter(receive(two, frames)))
    told: list[Message] = []
    pipe = Pipe(Reactor(), two, lambda message, _: told.append(message), lambda: None, frames)
    pipe.take_waiting()
    assert (first[0], told) == ({"n": 1}, [{"n": 2}])
    pipe.close()
    one.close()
