"""Each stage works in a stock twisted.web.server.Site over a stock resource; stock resources work in ours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Site as StockSite
from twisted.web.static import Data, File

from gateway.admission.addresses import AddressRules
from gateway.admission.authentication import Authenticated, Guarded
from gateway.admission.cors import CORSAnswered
from gateway.admission.health import HealthAnswered
from gateway.admission.ipfilter import IPFiltered
from gateway.admission.origins import CorsRules
from gateway.admission.peer import PeerNamed
from gateway.admission.peers import TrustedProxies
from gateway.admission.public import PublicPassed
from gateway.admission.ratelimit import RateLimited
from gateway.admission.refused import RefusedLimit
from gateway.admission.token_cache import TokenCache
from gateway.admission.tokens import Verifier
from gateway.admission.windows import SlidingWindow
from gateway.answers import fault
from gateway.audit.audited import Audited
from gateway.audit.memory import MemoryAuditLog
from gateway.exchange import Exchange, request_rules
from gateway.http.heads import RequestHeads
from gateway.http.mounted import Mounted
from gateway.http.site import Limits, Site
from gateway.http.sweep import Sweep
from gateway.keys import hmac_key
from gateway.routing.lookup import LookedUp
from gateway.routing.permitted import Permitted
from gateway.routing.policy import Policy
from gateway.routing.router import Routed
from gateway.routing.table import RouteTable
from gateway.shadow import Counts, Shadow
from gateway.stores.memory import MemoryBuckets
from gateway.terms import Terms
from gateway.testing import FailingBuckets, SlowBuckets
from gateway.upstream.size import SizeLimited
from tests.system.tools import SECRET, token

INNER = Data(b"inner", "text/plain")


class Transport(StringTransport):
    """A transport with a peer and an end."""

    aborted = False

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.9", 1234)

    def abortConnection(self) -> None:
        self.aborted = True


def stock(root: IResource) -> Any:
    """A stock site."""
    return StockSite(root, reactor=Clock())


def engine(root: IResource) -> Any:
    """Our own."""
    return Site(root, RequestHeads(request_rules("X-Forwarded-For")), Sweep(Clock()), Limits(), fault, Exchange)


def ask(make: Callable[[IResource], Any], root: IResource, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """One request to a resource, in a site made by C{make}."""
    protocol = make(root).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1234))
    transport = Transport()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    protocol.dataReceived(raw)
    while transport.producer is not None and not transport.streaming:
        transport.producer.resumeProducing()
    return answer(transport)


def answer(transport: StringTransport) -> tuple[int, dict[str, str], bytes]:
    """What has been written."""
    head, _, body = transport.value().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split(" ")[1]), fields, body


def raw(path: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request's bytes."""
    more = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *fields, *more, "", ""]).encode() + body


both = pytest.mark.parametrize("make", [stock, engine])
tokens = TokenCache(Verifier(hmac_key(SECRET.encode(), ["HS256"])), 10, 1 << 20)
BEARER = f"Authorization: Bearer {token()}"


@both
def test_ip_filtered(make: Any) -> None:
    """Addresses are filtered over any resource in any site."""
    proxies = TrustedProxies([], "X-Forwarded-For")
    for allow, status in (("192.0.2.0/24", 200), ("10.0.0.0/8", 403)):
        root = PeerNamed(IPFiltered(INNER, Terms(addresses=AddressRules([allow], []))), proxies, "X-Forwarded-For")
        found, _, body = ask(make, root, raw())
        assert found == status
        assert (body == b"inner") is (status == 200)
        if status == 403:
            assert json.loads(body)["error"] == "IP address not allowed"


@both
def test_peer_named(make: Any) -> None:
    """A trusted peer's client is who counts; its rubbish is 400."""
    proxies = TrustedProxies(["192.0.2.0/24"], "X-Forwarded-For")
    root = PeerNamed(IPFiltered(INNER, Terms(addresses=AddressRules(["7.7.7.7"], []))), proxies, "X-Forwarded-For")
    assert ask(make, root, raw("/", "X-Forwarded-For: 7.7.7.7"))[0] == 200
    assert ask(make, root, raw("/", "X-Forwarded-For: 7.7.7.8"))[0] == 403
    assert ask(make, root, raw("/", "X-Forwarded-For: x"))[0] == 400


@both
def test_cors_and_health(make: Any) -> None:
    """OPTIONS and /health are answered, everything else goes on, marked."""
    rules = CorsRules(True, ["*"], ["GET"], ["A"], ["B"], 5)
    root = CORSAnswered(HealthAnswered(INNER, "here"), Terms(cors=rules))
    status, fields, body = ask(make, root, raw(method="OPTIONS"))
    assert (status, fields["access-control-max-age"], body) == (200, "5", b"")
    status, fields, body = ask(make, root, raw("/x"))
    assert (status, fields["access-control-allow-origin"], body) == (200, "*", b"inner")
    status, fields, body = ask(make, root, raw("/health"))
    assert (status, body) == (200, b'{"status": "ok", "edge": "here"}')


@both
def test_authenticated(make: Any) -> None:
    """Tokens are asked for over any resource in any site."""
    root = Authenticated(INNER, tokens, Terms(), time.time)
    assert ask(make, root, raw("/", BEARER))[2] == b"inner"
    status, fields, body = ask(make, root, raw())
    assert (status, json.loads(body)["error"]) == (401, "Missing or invalid Authorization header")
    assert fields["www-authenticate"].startswith("Bearer")


@both
def test_guarded(make: Any) -> None:
    """Beyond the limit on refused tokens of an address nothing new of it is verified, in any site; what is known goes on."""
    verified: list[bytes] = []

    class Watched(Verifier):
        def verify(self, raw: bytes, now: float = 0.0) -> Any:
            verified.append(raw)
            return super().verify(raw, now)

    cache = TokenCache(Watched(hmac_key(SECRET.encode(), ["HS256"])), 10, 1 << 20)
    limit = RefusedLimit(SlidingWindow(2, 60_000_000, "refused"), MemoryBuckets(5))
    root = Guarded(INNER, cache, Terms(), time.time, limit)
    assert ask(make, root, raw("/", BEARER))[2] == b"inner"
    for number in range(2):
        assert ask(make, root, raw("/", f"{BEARER}{number}"))[0] == 401
    status, fields, body = ask(make, root, raw("/", f"Authorization: Bearer {token('new')}"))
    assert (status, json.loads(body)["limit"], len(verified)) == (429, "refused 2/60s", 3)
    assert (fields["x-ratelimit-remaining"], fields["ratelimit"].split(";")[:2]) == ("0", ['"refused"', "r=0"])
    assert ask(make, root, raw("/", BEARER))[2] == b"inner"
    assert ask(make, root, raw())[0] == 401
    assert len(verified) == 3


@both
def test_rate_limited(make: Any) -> None:
    """Requests are counted over any resource in any site, by a claim or by address."""
    terms = Terms(rate=SlidingWindow(1, 60_000_000), rate_key="sub")
    root = Authenticated(RateLimited(INNER, MemoryBuckets(5), terms, lambda: 1000.0), tokens, terms, time.time)
    status, fields, body = ask(make, root, raw("/", BEARER))
    assert (status, body, fields["x-ratelimit-remaining"]) == (200, b"inner", "0")
    status, fields, body = ask(make, root, raw("/", BEARER))
    assert (status, json.loads(body)["error"]) == (429, "Rate limit exceeded")
    assert int(fields["retry-after"]) > 0
    assert fields["x-ratelimit-limit"] == "1"


@both
def test_a_store_that_fails(make: Any) -> None:
    """When nobody can count, nobody passes: 503."""
    terms = Terms(rate=SlidingWindow(1, 60_000_000), rate_key="ip")
    status, _, body = ask(make, RateLimited(INNER, FailingBuckets(), terms, lambda: 1000.0), raw())
    assert (status, json.loads(body)["error"]) == (503, "Service unavailable")


@both
def test_a_client_that_leaves_while_the_store_is_asked(make: Any) -> None:
    """A client that leaves is forgotten; nothing is written to it when the count comes."""
    buckets = SlowBuckets()
    terms = Terms(rate=SlidingWindow(1, 60_000_000), rate_key="ip")
    protocol = make(RateLimited(INNER, buckets, terms, lambda: 1000.0)).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1))
    transport = Transport()
    protocol.makeConnection(transport)
    protocol.dataReceived(raw())
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    protocol.connectionLost(Failure(ConnectionLost()))
    buckets.waiting[0].settle(terms.rate.take(None, 1000)[1])
    assert transport.value() == b""


@both
def test_a_slow_store(make: Any) -> None:
    """A count that comes later lets the request through then."""
    buckets = SlowBuckets()
    rule = SlidingWindow(3, 60_000_000)
    root = RateLimited(INNER, buckets, Terms(rate=rule, rate_key="ip"), lambda: 1000.0)
    protocol = make(root).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1))
    transport = Transport()
    protocol.makeConnection(transport)
    protocol.dataReceived(raw())
    assert transport.value() == b""
    buckets.waiting[0].settle(rule.take(None, 1000)[1])
    assert answer(transport)[2] == b"inner"


@both
def test_a_fault_behind_a_slow_store(make: Any) -> None:
    """A resource that breaks after a wait is a 500 like any other, and disturbs nobody else who waits."""

    class Broken(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            raise ZeroDivisionError

    buckets, rule = SlowBuckets(), SlidingWindow(3, 60_000_000)
    root = RateLimited(Broken(), buckets, Terms(rate=rule, rate_key="ip"), lambda: 1000.0)
    protocol = make(root).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1))
    transport = Transport()
    protocol.makeConnection(transport)
    protocol.dataReceived(raw())
    with capturedLogs():
        buckets.waiting[0].settle(rule.take(None, 1000)[1])
    assert answer(transport)[0] == 500


@both
def test_routed_and_permitted(make: Any) -> None:
    """Paths, routes and policies are judged over any resource in any site."""
    table = RouteTable({"/a": Terms(route="/a", policy=Policy(methods=["GET"], roles=[("", ["admin"])]))})
    root = LookedUp(Routed(Authenticated(Permitted(INNER, Terms(), time.time), tokens, Terms(), time.time)), table, Terms())
    assert ask(make, root, raw("/a/b", BEARER))[2] == b"inner"
    assert ask(make, root, raw("/a/b", BEARER, method="PUT"))[0] == 405
    assert ask(make, root, raw("/b", BEARER))[0] == 404
    assert ask(make, root, raw("/a//b", BEARER))[0] == 400
    guest = f"Authorization: Bearer {token(role='guest')}"
    assert ask(make, root, raw("/a/b", guest))[0] == 403


def on_trial(gate: str, counts: Counts, **more: Any) -> Terms:
    """Terms with one gate in shadow mode."""
    return Terms(shadow=Shadow([gate], "/a", counts), **more)


@both
def test_public(make: Any) -> None:
    """A public route's requests go on with whatever token, and nobody is told of one."""
    terms = Terms(public=True, rate=SlidingWindow(99, 60_000_000), rate_key="ip")
    log = MemoryAuditLog()
    limit = RefusedLimit(SlidingWindow(1, 60_000_000, "refused"), MemoryBuckets(5))
    inner = RateLimited(INNER, MemoryBuckets(5), terms, lambda: 1000.0)
    for authenticated in (Authenticated(inner, tokens, terms, time.time), Guarded(inner, tokens, terms, time.time, limit)):
        root = Audited(PublicPassed(authenticated, inner, terms), log, lambda: 0.0, lambda: 0.0)
        for fields in ((BEARER,), ("Authorization: Bearer x.y.z",), ("Authorization: Basic x",), (BEARER, BEARER), ()):
            assert ask(make, root, raw("/", *fields))[2] == b"inner"
    assert {row[2] for row in log.rows} == {None}
    asked = PublicPassed(Authenticated(INNER, tokens, Terms(), time.time), INNER, Terms())
    assert [ask(make, asked, raw("/", *fields))[0] for fields in ((BEARER,), ())] == [200, 401]


@both
@pytest.mark.parametrize(
    ("gate", "detail", "stage"),
    [
        ("ip", "address", lambda terms: IPFiltered(INNER, terms(addresses=AddressRules((), ["192.0.2.0/24"])))),
        ("require", "policy require.role", lambda terms: Permitted(INNER, terms(policy=Policy(roles=[("", ["nobody"])])), time.time)),
        ("require", "method", lambda terms: Permitted(INNER, terms(policy=Policy(methods=["PUT"])), time.time)),
        ("ratelimit", "store", lambda terms: RateLimited(INNER, FailingBuckets(), terms(rate=SlidingWindow(1, 60_000_000), rate_key="ip"), lambda: 1000.0)),
        ("ratelimit", "token ratelimit.key", lambda terms: RateLimited(INNER, MemoryBuckets(5), terms(rate=SlidingWindow(1, 60_000_000), rate_key="team"), lambda: 1000.0)),
        ("ratelimit", "limit_keys", lambda terms: RateLimited(INNER, MemoryBuckets(0), terms(rate=SlidingWindow(1, 60_000_000), rate_key="ip"), lambda: 1000.0)),
    ],
)  # fmt: skip
def test_shadow(make: Any, gate: str, detail: str, stage: Any) -> None:
    """A gate refuses in earnest, and in shadow mode lets pass and says what it would have refused, in any site."""
    log, counts = MemoryAuditLog(), {}  # type: ignore[var-annotated]
    proxies = TrustedProxies([], "X-Forwarded-For")

    def asked(terms: Any) -> tuple[int, dict[str, str], bytes]:
        root = Audited(PeerNamed(stage(terms), proxies, "X-Forwarded-For"), log, lambda: 0.0, lambda: 0.0)
        return ask(make, root, raw())

    assert asked(Terms)[0] >= 400
    other = next(each for each in ("ip", "require", "ratelimit") if each != gate)
    assert asked(lambda **more: on_trial(other, counts, **more))[0] >= 400
    assert not counts
    assert asked(lambda **more: on_trial(gate, counts, **more))[2] == b"inner"
    assert (log.rows[-1][11], log.rows[-1][-1]) == ("", "shadow:" + detail)
    assert counts == {("/a", detail.split()[0]): 1}


@both
def test_shadow_of_bodies(make: Any) -> None:
    """A body that is too large passes whole in shadow mode, declared or chunked."""
    log, counts = MemoryAuditLog(), {}  # type: ignore[var-annotated]
    root = Audited(SizeLimited(Mounted(Echo()), on_trial("body", counts, max_body=4)), log, lambda: 0.0, lambda: 0.0)
    assert ask(make, root, raw(method="POST", body=b"1234"))[2] == b"got 1234"
    assert ask(make, root, raw(method="POST", body=b"12345"))[2] == b"got 12345"
    chunked = raw("/", "Transfer-Encoding: chunked", method="POST") + b"5\r\n12345\r\n0\r\n\r\n"
    assert ask(make, root, chunked)[2] == b"got 12345"
    assert [row[-1] for row in log.rows] == ["", "shadow:body_size", "shadow:body_size"]
    assert counts == {("/a", "body_size"): 2}


DODGES = ["/admin;x", "/admin;x/y", "/admin%3Bx", "/admin%3Fx", "/admin%23", "/%2561dmin/y", "/v1%3Aadmin", "/v1%253Aadmin/y", "/a/in%40side"]


@both
@pytest.mark.parametrize("path", DODGES)
def test_row_8_no_route_is_dodged(make: Any, path: str) -> None:
    """Row 8: a path that a careless service reads as another route's is refused, not sent by the laxer route."""
    table = RouteTable({name: Terms(route=name) for name in ("/", "/a", "/a/in@side", "/admin", "/v1:admin")})
    root = LookedUp(Routed(INNER), table, Terms())
    assert ask(make, root, raw(path))[0] == 400
    for harmless in ("/b;x", "/a/b;x=1/c", "/admin/a;x", "/admin/v1%3Aadmin", "/users/bob%40a.example", "/100%25"):
        assert ask(make, root, raw(harmless))[2] == b"inner"


@both
def test_no_route_no_dodge(make: Any) -> None:
    """Where no route takes the path as it is written, it stays a 404."""
    root = LookedUp(Routed(INNER), RouteTable({"/admin": Terms(route="/admin")}), Terms())
    for path in ("/admin;x", "/admin%3Fx", "/%2561dmin", "/b%20c"):
        assert ask(make, root, raw(path))[0] == 404


class Echo(Resource):
    """Says what it was sent."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"got " + bytes(request.content.read())


@both
def test_size_limited(make: Any) -> None:
    """Bodies are bounded over any resource in any site."""
    root = SizeLimited(Mounted(Echo()), Terms(max_body=4))
    assert ask(make, root, raw(method="POST", body=b"1234"))[2] == b"got 1234"
    assert ask(make, root, raw(method="POST", body=b"12345"))[0] == 413


@both
def test_audited(make: Any) -> None:
    """Every request is one row, with the identifier its answer carries."""
    log = MemoryAuditLog()
    ticks = iter(range(100))
    root = Audited(Authenticated(INNER, tokens, Terms(), time.time), log, lambda: float(next(ticks)), lambda: 77.0)
    _, fields, _ = ask(make, root, raw("/x?y", BEARER, "User-Agent: me"))
    assert fields["x-response-time"].endswith("000ms")
    ask(make, root, raw())
    assert [(r[0], r[2], r[4], r[5], r[7], r[11]) for r in log.rows] == [
        (77.0, "alice", b"/x", 200, b"me", ""), (77.0, None, b"/", 401, None, "no_token"),
    ]  # fmt: skip
    assert log.rows[0][8].decode() == fields["x-request-id"]


def test_a_file_in_our_tree(tmp_path: Path) -> None:
    """twisted.web.static.File works behind our stages: whole, a range, a 404, a HEAD, a 304."""
    (tmp_path / "page.txt").write_bytes(b"0123456789" * 1000)
    root = Authenticated(Mounted(File(str(tmp_path)), prefix=b"/files"), tokens, Terms(), time.time)
    whole = ask(engine, root, raw("/files/page.txt", BEARER))
    assert (whole[0], whole[1]["content-length"], whole[2]) == (200, "10000", b"0123456789" * 1000)
    part = ask(engine, root, raw("/files/page.txt", BEARER, "Range: bytes=5-9"))
    assert (part[0], part[2]) == (206, b"56789")
    assert ask(engine, root, raw("/files/none", BEARER))[0] == 404
    head = ask(engine, root, raw("/files/page.txt", BEARER, method="HEAD"))
    assert (head[0], head[1]["content-length"], head[2]) == (200, "10000", b"")
    since = f"If-Modified-Since: {whole[1]['last-modified']}"
    assert ask(engine, root, raw("/files/page.txt", BEARER, since))[0] == 304
    assert ask(engine, root, raw("/files/page.txt"))[0] == 401


def test_a_stock_resource_that_answers_later() -> None:
    """A stock resource may write in pieces, later; the engine frames them."""
    waiting: list[Any] = []

    class Later(Resource):
        isLeaf = True

        def render(self, request: Any) -> int:
            waiting.append(request)
            return NOT_DONE_YET

    protocol = engine(Mounted(Later())).buildProtocol(IPv4Address("TCP", "192.0.2.9", 1))
    transport = Transport()
    protocol.makeConnection(transport)
    protocol.dataReceived(raw())
    request = waiting[0]
    request.setResponseCode(202, b"Soon")
    request.setHeader(b"X-A", b"b")
    request.write(b"one")
    request.write(b"two")
    done: Deferred[None] = request.notifyFinish()
    request.finish()
    assert done.called
    value = transport.value()
    assert value.startswith(b"HTTP/1.1 202 Soon\r\n")
    assert value.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_a_resource_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a resource is 500 without a word about the inside, and the connection ends."""
    class Broken(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            raise ValueError("hunter2")

    status, fields, body = ask(engine, Broken(), raw())
    assert (status, json.loads(body)["error"], fields["connection"]) == (500, "Internal server error", "close")
    assert b"hunter2" not in body
