"""The express lane against the nested stages: one and the same gateway."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

import gateway.chain
from gateway.admission.apikeys import digest_of, new_key
from gateway.admission.pending import Pending
from gateway.admission.windows import Count
from gateway.http.channel import Channel
from gateway.service import GatewayService
from gateway.settings import Settings, parse
from gateway.stores.memory import MemoryBuckets
from tests.admission.proofs import Authority, Sender, name_of, token_hash

SECRET = "s" * 40
INI = f"""
[gateway]
listen = tcp:1
trusted_proxies = 10.0.0.0/8
max_requests_in_flight = 3
[jwt]
secret = {SECRET}
[ratelimit]
limit = 6
plan_claim = plan
refused = 4/1h
[plan gold]
limits = 3/10s, 4/10m
[headers]
claim.X-Team = team
claim.X-Plan = plan
[cors]
allow_origin = https://a.example, https://b.example
[breaker]
failures = 2
[route /a]
upstream = http://127.0.0.1:9/base
[route /a/closed]
upstream = http://127.0.0.1:9
ip.allow = 192.0.2.0/24
[route /a/staff]
upstream = http://127.0.0.1:9
require.role = staff
methods = GET
ratelimit.key = team
ratelimit.limit = 2
[route /a/dear]
upstream = http://127.0.0.1:9
ratelimit.cost = 2
ratelimit.cost.POST = 3
[route /a/scoped]
upstream = http://127.0.0.1:9
ratelimit.limit = 100
require.scope.POST = write
require.role.DELETE = staff
require.claim.team.PUT = x
headers.claim.X_Plan = team
[route /a/hours]
upstream = http://127.0.0.1:9
ratelimit.limit = 100
require.time = Wed 00:00-24:00 Europe/Berlin, Fri 22:00-06:00 Europe/Berlin
require.ip = 192.0.2.0/24, 10.0.0.0/8
[route /a/expr]
upstream = http://127.0.0.1:9
ratelimit.limit = 100
require.expr = user == "ann" || (method == "POST" && claims.team == "x") || ip.startsWith("198.") && path == "/a/expr"
[route /open]
upstream = http://127.0.0.1:9
public = yes
methods = GET, POST
ratelimit.cost.POST = 2
[route /open/here]
upstream = http://127.0.0.1:9
public = yes
ratelimit.limit = 1000
require.ip = 192.0.2.0/24
[route /open/closed]
upstream = http://127.0.0.1:9
public = yes
ip.deny = 192.0.2.0/24
cors.enabled = no
[route /shadow]
upstream = http://127.0.0.1:9
ip.deny = 192.0.2.0/24
ip.mode = shadow
require.role = staff
require.mode = shadow
methods = GET
ratelimit.limits = 2/1h
ratelimit.mode = shadow
body.max_size = 2
body.mode = shadow
breaker.mode = shadow
[route /a/quiet]
upstream = http://127.0.0.1:9
cors.enabled = no
ratelimit.key = ip
"""
#: With other credentials than bearer tokens.
PROVING = INI + """
[apikeys]
file = ${KEYS}
[dpop]
mode = accept
[mtls]
mode = accept
ca_file = ${CA}
user = subject.CN
header = X-Client-Cert
[route /a/proof]
upstream = http://127.0.0.1:9
dpop.mode = require
[route /a/keys]
upstream = http://127.0.0.1:9
auth = apikey
[route /a/both]
upstream = http://127.0.0.1:9
mtls.mode = require
"""


class Transport(StringTransport):
    """One with a real handle, for the look at whether it is stale."""

    def __init__(self, peer: str = "192.0.2.1") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", peer, 4711))
        self.ours, self.theirs = socket.socketpair()

    def getHandle(self) -> Any:
        return self.ours

    def abortConnection(self) -> None:
        self.disconnecting = True

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Upstream:
    """Answers each request at once; keeps what it was sent."""

    def __init__(self) -> None:
        self.transports: list[Transport] = []
        self.status = 200

    def connect(self, factory: Any) -> Any:
        connection = factory.buildProtocol(None)
        transport = Transport()
        self.transports.append(transport)
        connection.makeConnection(transport)
        transport.connection = connection  # type: ignore[attr-defined]
        return succeed(connection)

    def take(self) -> bytes:
        """What has been asked since, answered."""
        asked = b""
        for transport in self.transports:
            if transport.value():
                asked += transport.value()
                transport.clear()
                transport.connection.dataReceived(  # type: ignore[attr-defined]
                    b"HTTP/1.1 %d OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: *\r\n\r\nok" % self.status
                )
        return asked


class Asked(MemoryBuckets):
    """
    Counters that have to be asked for: known when the test says so. Some are decided without the
    store, and some of the time nobody can say.
    """

    waiting: list[tuple[Pending, Count | None]]

    def take(self, rule: Any, key: str, now: int, cost: int = 1) -> Any:
        pending, count = Pending(rule, key, now, cost), super().take(rule, key, now, cost)
        how = (now // 5_000_000) % 8
        note = {1: "local", 2: "open", 3: "closed"}.get(how, "")
        self.waiting.append((pending, None if how == 4 else count._replace(note=note)))
        return pending

    def answer(self) -> None:
        """Let everybody know."""
        while self.waiting:
            pending, count = self.waiting.pop(0)
            pending.settle(count)


class Gateway:
    """The whole chain without sockets, by either way."""

    def __init__(
        self, lane: bool, monkeypatch: pytest.MonkeyPatch, now: list[float], settings: Settings, buckets: type[MemoryBuckets] = MemoryBuckets
    ) -> None:
        identifiers = iter(range(10**6))

        def line() -> bytes:
            return b"X-Request-ID: %036d\r\n" % next(identifiers)

        for module in ("gateway.express", "gateway.audit.audited", "gateway.exchange", "gateway.answers"):
            monkeypatch.setattr(f"{module}.request_id_line", line)
        monkeypatch.setattr("gateway.express.READY", [])
        monkeypatch.setattr("gateway.service.time", SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0]))
        self.rows: list[Any] = []
        monkeypatch.setattr("gateway.audit.writer.AuditWriter.append", lambda _writer, row: self.rows.append(row))
        self.upstream = Upstream()
        monkeypatch.setattr("gateway.service.MemoryBuckets", buckets)
        self.service = GatewayService(settings, Clock())
        self.service.buckets.waiting = []
        if not lane:
            site = self.service.site
            site.resource = site.resource.nested  # type: ignore[attr-defined]
        for pool in self.service.generation.targets._pools.values():
            pool._endpoint = self.upstream  # type: ignore[assignment]
        self.channels: dict[str, Channel] = {}

    def ask(self, peer: str, raw: bytes) -> tuple[bytes, bytes]:
        """The answer, and what the upstream was asked."""
        channel = self.channels.get(peer)
        if channel is None or channel.transport.disconnecting:
            channel = self.service.site.buildProtocol(None)
            assert channel is not None
            if peer in self.channels:
                self.channels[peer].transport.close()
            self.channels[peer] = channel
            channel.makeConnection(Transport(peer))
        channel.dataReceived(raw)
        if isinstance(self.service.buckets, Asked):
            self.service.buckets.answer()
        asked = self.upstream.take()
        answer = channel.transport.value()
        channel.transport.clear()
        return answer, asked

    def close(self) -> None:
        """Close all sockets."""
        for channel in self.channels.values():
            channel.transport.close()
        for transport in self.upstream.transports:
            transport.close()


TOKENS = [
    b"Bearer " + jwt.encode({"sub": sub, "exp": 4e9, **more}, SECRET, "HS256").encode()
    for sub, more in (("ann", {}), ("bob", {"role": "staff", "team": "x"}), ("eve", {"team": "x", "scope": "write"}), ("gus", {"plan": "gold"}))
]
KEY = new_key().encode()
SENDER = Sender()
BOUND = SENDER.token(SECRET, sub="dee", exp=4e9).encode()
AUTHORITY = Authority(ends=1e9, begins=-1e9)
CLIENT = AUTHORITY.issue(name_of(CN="cat"), ends=1e9, begins=-1e9)
HELD = jwt.encode({"sub": "fay", "exp": 4e9, "cnf": {"x5t#S256": CLIENT.thumbprint}}, SECRET, "HS256").encode()
CERTIFICATE = b"X-Client-Cert: " + quote(CLIENT.pem, safe="").encode()
PATHS = [b"/a", b"/a/b?q=1", b"/a/closed", b"/a/staff", b"/a/staff/x", b"/a/quiet", b"/a/dear", b"/a/scoped", b"/a/hours", b"/a/expr", b"/open", b"/open/x?y", b"/open/here", b"/open/closed", b"/shadow", b"/health", b"/none", b"/a//b", b"/a/%2e", b"/a;x",
         b"/a/proof", b"/a/keys", b"/a/both"]  # fmt: skip
FIELDS = [b"Origin: https://b.example", b"Origin: https://evil.example", b"X-User-ID: root", b"x_user_role: admin", b"X-Team: root", b"x_plan: root", b"User-Agent: u", b"X-Forwarded-For: 192.0.2.7", b"Connection: close", b"x.gateway_assertion: mine",
          b"X-API-Key: " + KEY, b"x_api_key: x", b"DPoP: x", CERTIFICATE, b"X-Client-Cert: x"]  # fmt: skip


def proven(now: float, path: bytes, jti: str) -> list[bytes]:
    """A bound token with a proof."""
    claims = {"jti": jti, "htm": "GET", "htu": "http://h" + path.decode(), "iat": now, "ath": token_hash(BOUND)}
    return [b"Authorization: DPoP " + BOUND, b"DPoP: " + SENDER.proof(claims)]


def conversation(seed: int, now: float, proofs: bool) -> Iterator[tuple[str, bytes, float, int]]:
    """Requests as they come: (peer, the raw request, its time, the upstream's status)."""
    dice = random.Random(seed)  # noqa: S311 - no secret

    def usually(common: Any, *rare: Any) -> Any:
        return common if dice.random() < 0.7 else dice.choice(rare)

    for number in range(6000 if proofs else 2500):
        now += 7200 if dice.random() < 0.01 else usually(0, 5, 40)
        method = usually(b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE", b"post", b"PUT")
        authorization = usually(dice.choice(TOKENS), b"bearer" + TOKENS[0][6:], b"Basic x", TOKENS[0][:-3] + b"abc", b"", b"Bearer " + BOUND, b"Bearer " + HELD)
        body = usually(b"", b"body")
        path = dice.choice(PATHS)
        lines = [b"%s %s HTTP/1.1" % (method, path), b"Host: h", *dice.sample(FIELDS, usually(0, 1, 2))]
        shown = usually("token", "key", "proof", "certificate", "held") if proofs else "token"
        if shown == "token" and authorization:
            lines += [b"Authorization: " + authorization]
        lines += {
            "key": [b"X-API-Key: " + KEY],
            "proof": proven(now, path, f"{number // 40}"),
            "certificate": [CERTIFICATE],
            "held": [b"Authorization: Bearer " + HELD, CERTIFICATE],
        }.get(shown, [])
        lines += [b"Content-Length: 4"] if body else []
        peer = usually("192.0.2.1", "198.51.100.2", "10.1.1.1")
        yield peer, b"\r\n".join(lines) + b"\r\n\r\n" + body, now, usually(200, 500, 503)


def assertions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same gateway, whose upstreams are told who calls: signed with a key that signs alike each time."""
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    numbers = iter(range(10**6))
    monkeypatch.setattr("gateway.assertion.signer.token_urlsafe", lambda _: str(next(numbers)))
    told = f"[assertion]\ndefault = user\nkey_file = {folder}/key.pem\n"
    return told + INI.replace("[route /a/staff]", "[route /a/staff]\nassertion = request")


def test_both_ways_tell_the_upstream_the_same(patches: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Signed assertions, kept and for each request, are the same by either way, byte for byte."""
    seen = []
    for lane in (True, False):
        now = [1_700_000_000.0]
        ini = assertions(tmp_path, patches)
        gateway = Gateway(lane, patches, now, parse(ini, {}))
        try:
            for peer, raw, at, status in conversation(7, 1_700_000_000.0, proofs=False):
                now[0] = at
                gateway.upstream.status = status
                seen.append((lane, raw, gateway.ask(peer, raw)[1]))
        finally:
            gateway.close()
    half = len(seen) // 2
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert one[1:] == other[1:]
    told = {line for each in seen for line in each[2].split(b"\r\n") if line.startswith(b"X-Gateway-Assertion: ")}
    forwarded = sum(each[2].count(b"X-Gateway-Assertion: ") for each in seen)
    assert sum(each[2].count(b"X-User-ID: ") for each in seen) == forwarded > 2 * len(told) > 20


def settings_of(folder: Path, text: str) -> Settings:
    """The configuration, with its files."""
    keys, ca = folder / "keys", folder / "ca"
    keys.write_text(f"ci sha256={digest_of(KEY).hex()} user=bot plan=gold\n")
    keys.chmod(0o600)
    ca.write_bytes(AUTHORITY.pem)
    return parse(text, {"KEYS": str(keys), "CA": str(ca)})


both_kinds = pytest.mark.parametrize("text", [INI, PROVING], ids=["tokens", "proofs"])


@pytest.mark.parametrize("later_counts", [False, True])
@both_kinds
@pytest.mark.parametrize("seed", range(4))
def test_both_ways_are_one(
    patches: pytest.MonkeyPatch, seed: int, text: str, later_counts: bool, tmp_path: Path
) -> None:
    """
    Every answer, every byte for the upstream and every audit row is the same by either way, whether
    counts are known at once or a store has to be asked.
    """
    seen = []
    asked_for = list(conversation(seed, 1_700_000_000.0, text is PROVING))
    for lane in (True, False):
        now = [1_700_000_000.0]
        gateway = Gateway(lane, patches, now, settings_of(tmp_path, text), Asked if later_counts else MemoryBuckets)
        try:
            for peer, raw, at, status in asked_for:
                now[0] = at
                gateway.upstream.status = status
                answer, asked = gateway.ask(peer, raw)
                seen.append((lane, raw, re.sub(rb"Date: [^\r]+", b"", answer), asked, gateway.rows[-1:]))
        finally:
            gateway.close()
    half = len(seen) // 2
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert one[1:] == other[1:]
    statuses = {each[2][9:12] for each in seen}
    assert statuses >= {b"200", b"400", b"401", b"403", b"404", b"405", b"429", b"500", b"503"}
    users = {line for each in seen for line in each[3].split(b"\r\n") if line.startswith(b"X-User-ID")}
    assert all((b"X-User-ID: " + name in users) is (text is PROVING) for name in (b"bot", b"cat", b"dee", b"fay"))
    told = {(row[11], row[-1]) for each in seen for row in each[4]}
    assert told >= {("limit", "gold 4/600s"), ("limit_refused", "refused 4/1h")}
    if later_counts:
        assert {reason for reason, _ in told} >= {"store", "store_local", "store_open", "limit_local"}
    assert {detail for reason, detail in told if reason == "policy"} >= {f"require.{kind}" for kind in ("role", "scope", "ip", "time", "expr")}
    shadows = ",".join(detail for _, detail in told)
    assert set(re.findall("shadow:([a-z_]+)", shadows)) >= {"address", "limit", "policy", "method", "body_size"}
    asked_all = b"".join(each[3] for each in seen)
    assert b"root" not in asked_all
    assert b"X-Team: x\r\nX-Plan: gold" not in asked_all
    assert b"X-Team: x\r\n" in asked_all
    assert b"X_Plan: x\r\n" in asked_all


@both_kinds
def test_the_lane_is_taken(patches: pytest.MonkeyPatch, text: str, tmp_path: Path) -> None:
    """The second request of a user asks none of the nested stages, whatever others may show."""
    gateway = Gateway(True, patches, [1_700_000_000.0], settings_of(tmp_path, text))
    try:
        raw = b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: " + TOKENS[0] + b"\r\n\r\n"
        assert gateway.ask("192.0.2.1", raw)[0].startswith(b"HTTP/1.1 200")

        def never(self: Any, request: Any) -> int:
            raise AssertionError(type(self))

        for stage in gateway_stages():
            patches.setattr(stage, "render", never)
        answer, asked = gateway.ask("192.0.2.1", raw)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"X-User-ID: ann\r\n" in asked
    finally:
        gateway.close()


def gateway_stages() -> list[type]:
    """The classes of all nested stages."""
    return [getattr(gateway.chain, stage.name) for stage in gateway.chain.STAGES]


def test_public_routes_take_the_lane(patches: pytest.MonkeyPatch) -> None:
    """A public route asks none of the nested stages, and tells nobody of a good token."""
    gateway = Gateway(True, patches, [1_700_000_000.0], parse(INI, {}))
    try:
        token = b"Authorization: " + TOKENS[1] + b"\r\n"
        raw = b"GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n"
        assert gateway.ask("192.0.2.1", raw % (b"/a", token))[0].startswith(b"HTTP/1.1 200")
        for stage in gateway_stages():
            patches.setattr(stage, "render", None)
        for fields in (b"", token, b"Authorization: Basic x\r\n", 2 * token):
            answer, asked = gateway.ask("192.0.2.1", raw % (b"/open/here", fields))
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"X-User" not in asked
            assert b"uthorization" not in asked
            assert gateway.rows[-1][2] is None
    finally:
        gateway.close()
