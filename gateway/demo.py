# -*- test-case-name: tests.system.test_demo -*-
"""
C{twistd -n gateway --demo}: a whole working gateway with nothing prepared.

An upstream inside the process, a secret made for this run, a token, and the C{curl}
lines to try it. Everything it writes is in one temporary folder that goes with it.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Site

from gateway.mint import mint
from gateway.service import GatewayService
from gateway.settings import parse

#: Where the demo listens when nobody else does.
PORT = 8080

_INI = """\
[gateway]
listen = tcp:{port}:interface=127.0.0.1
edge = demo
shutdown_grace = 1s
[jwt]
secret = ${{JWT_SECRET}}
[ratelimit]
limit = 100
window = 60s
[audit]
database = {database}
[route /api/v1/users]
upstream = http://127.0.0.1:{upstream}
[route /api/v1/orders]
upstream = http://127.0.0.1:{upstream}
ratelimit.limit = 3
"""

_TEXT = """
  The gateway is running. In another terminal:

  T={token}
  B={base}

  curl -i -H "Authorization: Bearer $T" $B/api/v1/users/7     # 200: allowed, forwarded
  curl -i $B/api/v1/users/7                                   # 401: refused, no token
  for i in 1 2 3 4; do curl -i -H "Authorization: Bearer $T" $B/api/v1/orders/; done
                                                              # the fourth: 429, limited
  curl -i -H "Authorization: Bearer $T" $B/nowhere            # 404: no such route
  curl -i $B/health                                           # 200: no token needed

  All in one line:
  curl -i -H "Authorization: Bearer {token}" {base}/api/v1/users/7

  What happened, row by row:
  gateway audit --database {database}

  Ctrl-C ends it and leaves nothing behind.
"""


class DemoUpstream(Resource):
    """Tells what it was sent."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        """JSON of the request as the upstream sees it."""
        request.setHeader(b"content-type", b"application/json")
        headers = {
            name.decode("latin-1"): b", ".join(values).decode("latin-1")
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        seen = {
            "service": "demo upstream",
            "method": request.method.decode("latin-1"),
            "path": request.uri.decode("latin-1"),
            "headers": headers,
        }
        return json.dumps(seen, indent=2).encode("utf-8") + b"\n"


class DemoService(Service):
    """The gateway and its upstream, in a temporary folder."""

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._folder: Path | None = None
        self._upstream: Any = None
        self._gateway: GatewayService | None = None

    def startService(self) -> None:
        """Start the upstream, then the gateway before it, then say how to try it."""
        super().startService()
        self._folder = folder = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
        try:
            self._start(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _start(self, folder: Path) -> None:
        site = Site(DemoUpstream())
        site.noisy = False
        self._upstream = self._reactor.listenTCP(0, site, interface="127.0.0.1")
        port = _free_port()
        database = str(folder / "audit.sqlite3")
        text = _INI.format(port=port, upstream=self._upstream.getHost().port, database=database)
        settings = parse(
            text,
            {"JWT_SECRET": secrets.token_urlsafe(48)},
            name="demo.ini",
            directory=str(folder),
        )
        self._gateway = GatewayService(settings, self._reactor)
        self._gateway.startService()
        claims = {"sub": "alice", "role": "admin"}
        token = mint(settings.jwt, claims, 3600.0, time.time())
        base = f"http://127.0.0.1:{self._gateway.site.ports[0].getHost().port}"
        # For a person at a terminal, so not a log line: twistd has made sys.stdout the log.
        terminal = sys.__stdout__
        if terminal is not None:
            terminal.write(_TEXT.format(token=token, base=base, database=database))
            terminal.flush()

    def stopService(self) -> Deferred[None]:
        """Stop both and remove the folder."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            if self._gateway is not None:
                await self._gateway.stopService()
            if self._upstream is not None:
                await maybeDeferred(self._upstream.stopListening)
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    """L{PORT}, or 0 (any free one) when somebody else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT
