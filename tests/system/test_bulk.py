"""Much more than fits into memory, both ways at once, with a slow peer on each side."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.system.tools import WAIT, Client, Upstream, gateway, request

MIB = 1 << 20
SIZE = 200_000_000


class Bulk:
    """
    An upstream that takes a PUT of L{SIZE} bytes and gives as many to a GET.

    @ivar go: until it is set, nothing of a PUT's body is read.
    @ivar taken: bytes of bodies read.
    """

    def __init__(self) -> None:
        self.go = threading.Event()
        self.taken = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            if head.startswith(b"PUT"):
                self._take(sock, len(head.partition(b"\r\n\r\n")[2]))
            else:
                pour(sock, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)

    def _take(self, sock: socket.socket, taken: int) -> None:
        assert self.go.wait(WAIT)
        while taken < SIZE:
            data = sock.recv(MIB)
            assert data
            taken += len(data)
        self.taken = taken
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def stop(self) -> None:
        """End all."""
        for thread in self._threads:
            thread.join(WAIT)
        self._listener.close()


def pour(sock: socket.socket, head: bytes) -> None:
    """A head and L{SIZE} bytes, as fast as they are taken."""
    sock.sendall(head)
    block = b"d" * MIB
    for _ in range(SIZE // MIB):
        sock.sendall(block)
    sock.sendall(block[: SIZE % MIB])


@contextlib.contextmanager
def pouring(client: Client, head: bytes) -> Iterator[None]:
    """The same beside whatever is done meanwhile."""
    thread = threading.Thread(target=pour, args=(client.sock, head))
    thread.start()
    yield
    thread.join(WAIT)


def test_200_megabytes_both_ways_with_slow_peers(tmp_path: Path, upstream: Upstream) -> None:
    """
    200 MB up and 200 MB down at once, a slow peer on each side: memory grows by less than
    20 MiB, for a slow reader stops the upstream and a slow upstream stops the client.
    """
    bulk = Bulk()
    routes = f"[route /bulk]\nupstream = http://127.0.0.1:{bulk.port}\nbody.max_size = 1GiB"
    with gateway(tmp_path, upstream, routes=routes) as daemon, daemon.connect() as up, daemon.connect() as down:
        before = peak = daemon.rss()
        with pouring(up, request("/bulk/up", f"Content-Length: {SIZE}", method="PUT")):
            down.send(request("/bulk/down"))
            for _ in range(50):  # both are stuck: nothing may pile up
                threading.Event().wait(0.02)
                peak = max(peak, daemon.rss())
            bulk.go.set()
            down.until(b"\r\n\r\n")
            count = len(down.buffer)
            while count < SIZE:
                data = down.sock.recv(MIB)
                assert data
                count += len(data)
                peak = max(peak, daemon.rss())
        assert up.answer().body == b"ok"
    bulk.stop()
    assert (bulk.taken, count) == (SIZE, SIZE)
    assert peak - before < 20 * MIB
