"""
An identity provider on Twisted Web that signs and rotates, and lies, hangs or floods when a test
tells it to. As a child process: C{python -m tests.system.issuer}; it prints its port.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

CREDENTIALS = b64encode(b"gateway:introspection-secret").decode()


def private_key(algorithm: str) -> Any:
    """A new key for that algorithm."""
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: Any, algorithm: str, **members: object) -> dict[str, Any]:
    """Its public half as a JWK; a member of C{None} is left out."""
    found = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key()))
    found.pop("key_ops", None)
    found = {**found, "alg": algorithm, "use": "sig", **members}
    return {name: value for name, value in found.items() if value is not None}


class Provider(Resource):
    """
    The provider.

    @ivar mode: what it does wrong.
    @ivar counts: how often each path was asked for.
    @ivar answers: what it says of opaque tokens.
    """

    isLeaf = True

    def __init__(self, algorithm: str = "ES256") -> None:
        super().__init__()
        self.iss = ""
        self.algorithm = algorithm
        self.mode = "ok"
        self.max_age: int | None = None
        self.counts: dict[str, int] = {}
        self.keys: list[tuple[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.rotate()

    def rotate(self, keep: int = 1) -> str:
        """A new key signs from now on; so many of the old ones stay published."""
        kid = f"k{self.counts.get('rotations', 0)}"
        self.counts["rotations"] = self.counts.get("rotations", 0) + 1
        self.keys = [(kid, private_key(self.algorithm)), *self.keys[:keep]]
        return kid

    def token(self, **claims: object) -> str:
        """A good one; a claim of C{None} is left out."""
        kid, key = self.keys[0]
        payload = {"iss": self.iss, "sub": "alice", "exp": int(time.time()) + 600, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key, self.algorithm, headers={"kid": kid, "typ": "at+jwt"})

    def jwks(self) -> bytes:
        """The key set."""
        return json.dumps({"keys": [public_jwk(key, self.algorithm, kid=kid) for kid, key in self.keys]}).encode()

    def render(self, request: Any) -> Any:
        """Answer, in its mode."""
        path = request.path.decode()
        if path == "/control":
            return self._control(json.loads(request.content.read() or b"{}"))
        if path == "/token":
            return self.token(**json.loads(parse_qs(request.uri.decode().partition("?")[2])["claims"][0])).encode()
        self.counts[path] = self.counts.get(path, 0) + 1
        request.setHeader("Content-Type", "application/json")
        if self.max_age is not None:
            request.setHeader("Cache-Control", f"public, max-age={self.max_age}")
        wrong = getattr(self, "_" + self.mode, None)
        if wrong is not None:
            return wrong(request)
        if path == "/introspect":
            return self._introspect(request)
        if path == "/jwks":
            return self.jwks()
        return json.dumps({"issuer": self.iss, "jwks_uri": self.iss + "/jwks"}).encode()

    def _control(self, change: dict[str, Any]) -> bytes:
        if change.pop("rotate", False):
            self.rotate(change.pop("keep", 1))
        for name, value in change.items():
            setattr(self, name, value)
        return json.dumps({"counts": self.counts, "kid": self.keys[0][0]}).encode()

    def _introspect(self, request: Any) -> bytes:
        if request.getHeader("Authorization") != f"Basic {CREDENTIALS}":
            request.setResponseCode(401)
            return b"{}"
        asked = parse_qs(request.content.read().decode())["token"][0]
        return json.dumps(self.answers.get(asked, {"active": False})).encode()

    def _hang(self, request: Any) -> int:
        return NOT_DONE_YET

    def _slow(self, request: Any) -> int:
        request.write(b'{"keys": [')  # and nothing more
        return NOT_DONE_YET

    def _huge(self, request: Any) -> bytes:
        return b'{"keys": [' + b" " * 10_000_000 + b"]}"

    def _endless(self, request: Any) -> int:
        for _ in range(100):
            request.write(b" " * 100_000)
        return NOT_DONE_YET

    def _redirect(self, request: Any) -> bytes:
        request.setResponseCode(302)
        request.setHeader("Location", "http://169.254.169.254/latest/meta-data/")
        return b""

    def _error(self, request: Any) -> bytes:
        request.setResponseCode(500)
        return b"{}"

    def _garbage(self, request: Any) -> bytes:
        return b"<html>"

    def _gzip(self, request: Any) -> bytes:
        request.setHeader("Content-Encoding", "gzip")
        return b"\x1f\x8b"

    def _cut(self, request: Any) -> int:
        request.setHeader("Content-Length", "1000")
        request.write(b"{")
        request.transport.loseConnection()
        return NOT_DONE_YET

    def _stranger(self, request: Any) -> bytes:
        return json.dumps({"issuer": self.iss + "/", "jwks_uri": self.iss + "/jwks"}).encode()

    def _inward(self, request: Any) -> bytes:
        return json.dumps({"issuer": self.iss, "jwks_uri": "http://169.254.169.254/keys"}).encode()

    def _empty(self, request: Any) -> bytes:
        return b'{"keys": []}'


class Child:
    """A provider in a process of its own."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.issuer", algorithm], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.iss = f"http://127.0.0.1:{self.port}"

    def control(self, **change: object) -> dict[str, Any]:
        """Change what it does; how often it was asked for what."""
        found: dict[str, Any] = json.loads(self._ask("POST", "/control", json.dumps(change)))
        return found

    def token(self, **claims: object) -> str:
        """A token, signed now."""
        return self._ask("GET", "/token?claims=" + quote(json.dumps(claims)))

    def _ask(self, method: str, path: str, body: str | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            return connection.getresponse().read().decode()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def issuer(algorithm: str = "ES256") -> Iterator[Child]:
    """A provider, ended at the end."""
    child = Child(algorithm)
    try:
        yield child
    finally:
        child.stop()


def main() -> None:
    """Serve on a port of the system's choice until killed, or the parent has gone."""
    from twisted.internet import reactor, stdio  # noqa: TID251
    from twisted.internet.protocol import Protocol

    class Parent(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            with contextlib.suppress(Exception):
                reactor.stop()  # type: ignore[attr-defined]

    provider = Provider(sys.argv[1])
    port = reactor.listenTCP(0, Site(provider), interface="127.0.0.1")  # type: ignore[attr-defined]
    provider.iss = f"http://127.0.0.1:{port.getHost().port}"
    stdio.StandardIO(Parent())
    sys.stdout.write(f"{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
