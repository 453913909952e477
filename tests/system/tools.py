"""A real daemon as a child process, and an upstream on real sockets that records bytes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt

SECRET = "0123456789abcdef0123456789abcdef-test"
WAIT = 15.0

INI = """
[gateway]
listen = tcp:{port}:interface=127.0.0.1
    {listen}
edge = test-edge
{gateway}
[jwt]
secret = ${{JWT_SECRET}}
{jwt}
[ratelimit]
{ratelimit}
[audit]
database = {folder}/audit.sqlite3
flush_interval = 20ms
{rest}
[route /api/v1/users]
upstream = http://127.0.0.1:{upstream}
{users}
{routes}
"""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def token(sub: object = "alice", **claims: object) -> str:
    """A good token; a claim of C{None} is left out."""
    payload = {"sub": sub, "role": "admin", "exp": int(time.time()) + 7200, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.api_jws.encode(json.dumps(payload).encode(), SECRET, algorithm="HS256")


class Call:
    """One request as an upstream got it."""

    def __init__(self, sock: socket.socket, raw: bytes, head: bytes, body: bytes) -> None:
        self.sock, self.raw, self.body = sock, raw, body
        lines = head.split(b"\r\n")
        self.method, self.target, self.version = lines[0].split(b" ")
        self.lines = lines[1:]

    def values(self, name: str) -> list[str]:
        """Values of a field, in order."""
        wanted = name.lower().encode()
        return [
            line.partition(b":")[2].strip().decode("latin-1")
            for line in self.lines
            if line.partition(b":")[0].lower() == wanted
        ]


def dechunk(body: bytes) -> tuple[bytes, bytes]:
    """A chunked body's payload, and its trailers."""
    payload = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return payload, body[:-2]
        payload, body = payload + body[:size], body[size + 2 :]


def ok(call: Call) -> bytes:
    """What an upstream answers when a test has no opinion."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Upstream:
    """
    Threads on real sockets. C{answer} is called with each L{Call}; returns bytes to send,
    or C{None} when it has done everything itself (the connection is closed then).
    """

    def __init__(self, answer: Callable[[Call], bytes | None] = ok) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.log = bytearray()
        self.unfinished: set[socket.socket] = set()
        self.ended = threading.Semaphore(0)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock:
            while True:
                call = self._read(sock)
                self.unfinished.discard(sock)
                if call is None:
                    break
                self.calls.append(call)
                answer = self.answer(call)
                if answer is None:
                    break
                sock.sendall(answer)
        self.unfinished.discard(sock)
        self.ended.release()

    def _read(self, sock: socket.socket) -> Call | None:
        buffer = bytearray()

        def more() -> bool:
            data = sock.recv(65536)
            self.unfinished.add(sock)
            self.log.extend(data)
            buffer.extend(data)
            return bool(data)

        while b"\r\n\r\n" not in buffer:
            if not more():
                return None
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        lower = head.lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", lower)
        if length:
            while len(buffer) < len(head) + 4 + int(length[1]):
                if not more():
                    return None
            body = bytes(buffer[len(head) + 4 :])
        elif b"\r\ntransfer-encoding:" in lower:
            start = len(head) + 4  # a large body is looked at from its end only
            while not re.search(rb"(^|\r\n)0\r\n(.+\r\n)*\r\n$", bytes(buffer[max(start, len(buffer) - 4096) :])):
                if not more():
                    return None
            body = bytes(buffer[len(head) + 4 :])
        else:
            body = rest
        return Call(sock, bytes(buffer), head, body)

    def settle(self) -> None:
        """Wait until nobody is in the middle of a request any more."""
        deadline = time.monotonic() + WAIT
        while self.unfinished and time.monotonic() < deadline:
            select.select([], [], [], 0.005)

    def stop(self) -> None:
        """End all."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._accepting.join(WAIT)
        for thread in self._threads:
            thread.join(WAIT)


class Daemon:
    """A gateway as C{twistd} runs it."""

    def __init__(
        self, folder: Path, text: str, port: int, env: dict[str, str] | None = None, *,
        twistd: tuple[str, ...] = ("-n", "--pidfile="), before: tuple[str, ...] = (), pass_fds: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        self.port = port
        self.folder = folder
        self.ini = folder / "gateway.ini"
        self.ini.write_text(text)
        self.log = folder / "log"
        environ = {**os.environ, "JWT_SECRET": SECRET, **(env or {})}
        environ.pop("STATE_DIRECTORY", None)
        # Appended to, by whoever has it: a successor, or the next daemon in this folder.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*before, *TWISTD, *REACTOR, *twistd, "gateway", "--config", str(self.ini)],
                stdout=log, stderr=subprocess.STDOUT, env=environ, cwd=folder, pass_fds=pass_fds,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            with contextlib.suppress(OSError), self.connect() as client:
                client.send(b"GET / HTTP/9.9\r\n\r\n")  # refused before anything is audited
                if client.rest():
                    return
            select.select([], [], [], 0.02)
        raise RuntimeError("did not listen: " + self.log.read_text())

    def connect(self) -> Client:
        """A connection of a client."""
        return Client(self.port)

    def ask(self, raw: bytes) -> Answer:
        """One request on a connection of its own; its answer."""
        with self.connect() as client:
            client.send(raw)
            return client.answer(head=raw.startswith(b"HEAD "))

    def get(self, path: str = "/api/v1/users/7", *fields: str, tok: str | None = "", method: str = "GET") -> Answer:
        """A request with a good token, unless told otherwise."""
        return self.ask(request(path, *fields, tok=tok, method=method))

    def rows(self, least: int = 0, where: str = "1") -> list[sqlite3.Row]:
        """The audit rows, as soon as there are so many."""
        deadline = time.monotonic() + WAIT
        while True:
            connection = sqlite3.connect(f"file:{self.folder}/audit.sqlite3?mode=ro", uri=True)
            connection.row_factory = sqlite3.Row
            found = connection.execute(f"SELECT * FROM audit_logs WHERE {where} ORDER BY id").fetchall()
            connection.close()
            if len(found) >= least or time.monotonic() > deadline:
                return found
            select.select([], [], [], 0.02)

    def rss(self) -> int:
        """Resident memory, bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def reload(self, text: str | None = None) -> str:
        """SIGHUP, maybe after the file has changed; what the log says of it, once it is done."""
        before = len(self.log.read_text())
        if text is not None:
            self.rewrite(text)
        self.process.send_signal(signal.SIGHUP)
        return self.logged("reloaded: ", "reload refused: ", "reload failed", after=before)

    def rewrite(self, text: str) -> None:
        """Another configuration, all at once."""
        other = self.ini.with_suffix(".new")
        other.write_text(text)
        other.replace(self.ini)

    def logged(self, *texts: str, after: int = 0) -> str:
        """The log from a place on, once one of the texts stands in it."""
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            said = self.log.read_text()[after:]
            if any(text in said for text in texts) and said.endswith("\n"):
                return said
            select.select([], [], [], 0.01)
        raise RuntimeError(f"not logged: {texts}: " + self.log.read_text())

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


#: Which reactor serves: GATEWAY_TEST_REACTOR, or what users get.
REACTOR = [f"--reactor={name}"] if (name := os.environ.get("GATEWAY_TEST_REACTOR")) else []
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


def request(path: str, *fields: str, tok: str | None = "", method: str = "GET", body: bytes = b"") -> bytes:
    """A request's bytes; C{tok=None}: without a token."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test"]
    if tok is not None:
        lines.append(f"Authorization: Bearer {tok or token()}")
    lines += fields
    if body and not any(field.lower().startswith(("content-length", "transfer-")) for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Answer:
    """An answer as it came."""

    def __init__(self, head: bytes, body: bytes, whole: bool) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.lines = lines[1:]
        self.body = body
        self.whole = whole

    def values(self, name: str) -> list[str]:
        """Values of a field, in order."""
        return [
            line.partition(":")[2].strip()
            for line in self.lines
            if line.partition(":")[0].lower() == name.lower()
        ]

    def __getitem__(self, name: str) -> str:
        return self.values(name)[0]

    @property
    def error(self) -> str:
        """The sentence of a refusal."""
        return str(json.loads(self.body)["error"])


class Client:
    """A raw client."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes; a peer that has closed is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def more(self) -> bool:
        """Read some; whether there was any."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        while mark not in self.buffer:
            if not self.more():
                raise EOFError(self.buffer)
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def answer(self, head: bool = False) -> Answer:
        """The next answer."""
        top = self.until(b"\r\n\r\n")[:-4]
        answer = Answer(top, b"", True)
        if head or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.values("Content-Length"):
            length = int(answer["Content-Length"])
            while len(self.buffer) < length:
                if not self.more():
                    answer.whole = False
                    break
            answer.body, self.buffer = self.buffer[:length], self.buffer[length:]
        elif answer.values("Transfer-Encoding"):
            self._chunks(answer)
        else:
            self.rest()
            answer.body, self.buffer = self.buffer, b""
        return answer

    def _chunks(self, answer: Answer) -> None:
        try:
            while size := int(self.until(b"\r\n"), 16):
                while len(self.buffer) < size + 2:
                    if not self.more():
                        raise EOFError
                answer.body += self.buffer[:size]
                self.buffer = self.buffer[size + 2 :]
            answer.lines += self.until(b"\r\n").decode().split("\r\n")[:-1]
            if answer.lines[-1] != "":
                answer.lines += self.until(b"\r\n").decode().split("\r\n")[:-1]
        except EOFError:
            answer.whole = False

    def rest(self) -> bytes:
        """Everything up to the connection's end."""
        while self.more():
            pass
        return self.buffer


def configuration(
    folder: Path, upstream: Upstream, port: int, *, gateway: str = "", jwt: str = "",
    ratelimit: str = "", rest: str = "", users: str = "", routes: str = "", listen: str = "",
) -> str:  # fmt: skip
    """An INI file of a daemon before an upstream; unless told otherwise limits are no test's business."""
    if "limit = " not in ratelimit and "limits = " not in ratelimit:
        ratelimit = "limit = 100000\n" + ratelimit
    return INI.format(
        port=port, folder=folder, upstream=upstream.port, gateway=gateway, jwt=jwt,
        ratelimit=ratelimit, rest=rest, users=users, routes=routes, listen=listen,
    )  # fmt: skip


@contextlib.contextmanager
def gateway(folder: Path, upstream: Upstream, *, env: dict[str, str] | None = None, **options: str) -> Iterator[Daemon]:
    """A daemon before an upstream (see L{configuration}), stopped at the end; it must stop with status 0."""
    port = free_port()
    daemon = Daemon(folder, configuration(folder, upstream, port, **options), port, env)
    try:
        yield daemon
    finally:
        status = daemon.stop()
    assert status == 0, daemon.log.read_text()
