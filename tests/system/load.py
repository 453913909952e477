"""Clients that never tire, and what became of each of their requests."""

from __future__ import annotations

import contextlib
import itertools
import threading

from tests.system.tools import WAIT, Client, Daemon, request, token


class Load:
    """
    Threads that ask one request after another, each under a path of its own, on connections
    that they keep for as long as they are let.

    @ivar answered: paths of whole answers, in each client's order, by connection.
    @ivar open: paths of requests without a whole answer.
    @ivar broken: of these, the ones whose answer had begun.
    @ivar refused: connections that were refused.
    """

    def __init__(self, port: int, clients: int = 8, keep: bool = True) -> None:
        self._port = port
        self._tokens = [token(f"load-{number}") for number in range(clients)]
        self._keep = keep
        self._numbers = itertools.count()
        self._ending = threading.Event()
        self._moved = threading.Condition()
        self.answered: list[list[str]] = []
        self.statuses: set[int] = set()
        self.open: list[str] = []
        self.broken: list[str] = []
        self.refused = 0
        self._threads = [threading.Thread(target=self._client, args=(each,)) for each in self._tokens]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """All clients finish."""
        self._ending.set()
        for thread in self._threads:
            thread.join(WAIT)
        assert not any(thread.is_alive() for thread in self._threads)

    @property
    def connections(self) -> int:
        """On how many connections there were answers; one for each client, if none was closed."""
        return sum(bool(each) for each in self.answered)

    @property
    def count(self) -> int:
        """Whole answers so far."""
        return sum(len(each) for each in self.answered)

    def more(self, answers: int = 200) -> None:
        """Wait for so many more answers."""
        wanted = self.count + answers
        with self._moved:
            assert self._moved.wait_for(lambda: self.count >= wanted, WAIT)

    def _client(self, tok: str) -> None:
        while not self._ending.is_set():
            try:
                client = Client(self._port)
            except ConnectionRefusedError:
                self.refused += 1
                self._ending.wait(0.01)
                continue
            except OSError:
                continue
            with client, contextlib.suppress(OSError, EOFError):
                mine: list[str] = []
                self.answered.append(mine)
                while not self._ending.is_set() and self._ask(client, mine, tok):
                    # Many, not as many as possible: others want the processors, too.
                    self._ending.wait(0.001)

    def _ask(self, client: Client, mine: list[str], tok: str) -> bool:
        """One request; whether another may follow on this connection."""
        path = f"/api/v1/users/{next(self._numbers)}"
        fields = () if self._keep else ("Connection: close",)
        self.open.append(path)
        client.sock.sendall(request(path, *fields, tok=tok))
        try:
            answer = client.answer()
        except EOFError:
            if client.buffer:
                self.broken.append(path)
            raise
        if not answer.whole:
            self.broken.append(path)
            return False
        self.open.remove(path)
        with self._moved:
            mine.append(path)
            self.statuses.add(answer.status)
            self._moved.notify_all()
        return answer.values("Connection") != ["close"]

    def cut(self, daemon: Daemon) -> list[str]:
        """Requests whose heads were read and that got no whole answer, by the audit's word."""
        known = {row["path"] for row in daemon.rows(self.count)}
        return sorted(set(self.broken) | (set(self.open) & known))
