# -*- test-case-name: tests.system.test_workers -*-
"""
A worker: lets its supervisor say what to serve and on which sockets; ends when the
supervisor says so, or is gone.

    python -m gateway.workers.child CHANNEL BOARD [REACTOR]

Not for people: the numbers are those of descriptors that only a supervisor has. A fresh
program, not a fork of a running one, so that threads, the reactor and its signals begin
as in any other process.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from gateway.workers.pipe import Frames, Message, receive


def main(arguments: list[str]) -> None:
    """Serve until told otherwise."""
    channel, board, *rest = arguments
    # Nothing of what is imported is garbage; the service collects, from when it serves.
    gc.disable()
    # Ctrl-C in a terminal, and a terminal that closes, are the supervisor's business.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    sock = socket.socket(fileno=int(channel))
    for descriptor in (int(channel), int(board)):
        os.set_inheritable(descriptor, False)
    _install(rest[0] if rest else "")
    from twisted.internet import reactor  # noqa: TID251 - this is a program

    from gateway.workers.serving import Serving

    # All that takes long is done: a spare worker waits here for its number.
    frames = Frames()
    message, fds = _first(sock, frames)
    Serving(reactor, message["number"], int(board), sock, frames).run(message, fds)


def _first(sock: socket.socket, frames: Frames) -> tuple[Message, list[int]]:
    """The message that says what to serve."""
    while True:
        for found in receive(sock, frames):
            return found


def _install(name: str) -> None:
    """The supervisor's choice of a reactor, or the one it would have by itself."""
    if name:
        from twisted.application.reactors import installReactor

        installReactor(name)
    else:
        from gateway.tap import choose_reactor

        choose_reactor()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EOFError:
        sys.exit("gateway: the supervisor is gone")
