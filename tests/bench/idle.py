"""
Connections that have asked once and stay open, in a process of their own: each process
may only have so many descriptors. The child prints "open" when all are there, and how many the
peer has closed when its standard input ends.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.bench.load import PATH, Count
from tests.bench.processes import Failed

#: From one loopback address; far fewer than it has ports.
_PER_ADDRESS = 5000


def descriptors(wanted: int) -> bool:
    """Raise this process's limit as far as the system lets us; whether so many are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= wanted


class Idle:
    """A context in which so many connections are open."""

    def __init__(self, port: int, token: str, number: int, count: Count) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.idle", str(port), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._in, self._out = self._child.stdin, self._child.stdout
        self._in.write(token + "\n")
        self._in.flush()
        if self._out.readline() != "open\n":
            self.__exit__(None, None, None)
            raise Failed(f"{number} idle connections could not be opened and answered with 200")
        count.answered += number
        count.sent += number

    def closed(self) -> int:
        """How many the peer has closed meanwhile; the end of all of them."""
        self._in.close()
        return int(self._out.readline() or -1)

    def __enter__(self) -> Idle:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._in.close()
        self._out.close()
        self._child.wait()


def _hold(port: int, number: int) -> int:
    token, sockets, poll = sys.stdin.readline().strip(), [], select.poll()
    head = f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for each in range(number):
        source = f"127.0.0.{2 + each // _PER_ADDRESS}"
        sock = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
        sockets.append(sock)
        sock.sendall(head)
        if not sock.recv(65536).startswith(b"HTTP/1.1 200"):
            return 1
        poll.register(sock, select.POLLIN)
    print("open", flush=True)
    sys.stdin.read()
    with contextlib.suppress(BrokenPipeError):
        print(len(poll.poll(0)), flush=True)
    return 0


if __name__ == "__main__":
    descriptors(0)
    sys.exit(_hold(int(sys.argv[1]), int(sys.argv[2])))
