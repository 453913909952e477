"""Policies, public routes, shadow mode and claims as headers, with the real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.tools import Answer, Upstream, gateway, request, token

PATH = "/api/v1/users/7"


def shown(row: object) -> tuple[str, str]:
    """What an audit row says of the verdict."""
    return row["reason"], row["detail"]  # type: ignore[index]


def test_scope_by_method(tmp_path: Path, upstream: Upstream) -> None:
    """Reading asks for one scope, writing for one more; who lacks one is told which (RFC 6750)."""
    users = "require.scope = orders:read\nrequire.scope.POST = orders:write\nrequire.role.DELETE = admin"
    with gateway(tmp_path, upstream, users=users) as daemon:
        reader, writer = token(scope="orders:read"), token(scope="orders:write orders:read", role="clerk")
        assert daemon.get(PATH, tok=reader).status == 200
        refused = daemon.get(PATH, tok=reader, method="POST")
        assert (refused.status, refused.error) == (403, "Forbidden")
        assert refused["WWW-Authenticate"] == 'Bearer realm="gateway", error="insufficient_scope", scope="orders:read orders:write"'
        assert daemon.get(PATH, tok=reader, method="post").status == 403
        assert daemon.get(PATH, tok=writer, method="POST").status == 200
        assert daemon.get(PATH, tok=token(), method="GET").status == 403
        assert daemon.get(PATH, tok=writer, method="DELETE").status == 403
        assert daemon.get(PATH, tok=reader, method="DELETE").status == 200
        details = [shown(row) for row in daemon.rows(7) if row["status"] == 403]
        assert details == [("policy", "require.scope")] * 3 + [("policy", "require.role")]


def test_claims_by_method(tmp_path: Path, upstream: Upstream) -> None:
    """A claim may be asked of one method, in the same spelling as a scope."""
    users = "require.claim.department = finance, audit\nrequire.claim.department.DELETE = audit"
    with gateway(tmp_path, upstream, users=users) as daemon:
        finance, audit = token(department="finance"), token(department=["audit"])
        assert [daemon.get(PATH, tok=tok, method=method).status for tok in (finance, audit) for method in ("GET", "DELETE")] == [200, 403, 200, 200]


def test_public(tmp_path: Path, upstream: Upstream) -> None:
    """A public route asks for no token, drops one that came, sends no identity, and counts by address."""
    routes = f"[route /open]\nupstream = http://127.0.0.1:{upstream.port}\npublic = yes\nmethods = GET\nratelimit.limit = 3"
    rest = "[headers]\nclaim.X-Department = department"
    with gateway(tmp_path, upstream, routes=routes, rest=rest) as daemon:
        spoofs = ("X-User-ID: root", "x_user_role: admin", "X.Department: finance", "X_DEPARTMENT: finance")
        good = token(department="finance")
        for tok in (None, good, "garbage"):
            assert daemon.get("/open/x", *spoofs, tok=tok).status == 200
        over = daemon.get("/open/x", tok=token("bob"))
        assert (over.status, over.error) == (429, "Rate limit exceeded")
        twice = request("/open/x", "Authorization: Bearer x", tok=good)
        assert daemon.ask(twice).status == 429
        assert daemon.get("/open/x", tok=None, method="POST").status == 429
        assert daemon.get(PATH, tok=None).status == 401
        log = bytes(upstream.log).lower()
        assert b"authorization" not in log
        assert b"bearer" not in log
        assert b"root" not in log
        assert b"finance" not in log
        assert b"x-user-" not in log
        assert log.count(b"x-request-id: ") == 3
        assert {row["user_id"] for row in daemon.rows(7)} == {"anonymous"}


def test_public_keeps_its_other_rules(tmp_path: Path, upstream: Upstream) -> None:
    """Methods, addresses and hours hold on a public route too."""
    route = f"upstream = http://127.0.0.1:{upstream.port}\npublic = yes\n"
    routes = f"[route /post]\n{route}methods = POST\n[route /there]\n{route}require.ip = 192.0.2.0/24\n[route /here]\n{route}require.ip = 127.0.0.0/8"
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        assert [daemon.get(path, tok=None).status for path in ("/post", "/there", "/here")] == [405, 403, 200]
        assert shown(daemon.rows(3)[1]) == ("policy", "require.ip")


def test_addresses_and_hours(tmp_path: Path, upstream: Upstream) -> None:
    """A good token from elsewhere, or out of hours, is refused."""
    now = time.gmtime()
    today, other = (time.strftime("%a", time.gmtime(time.mktime(now) + days * 86400)) for days in (0, 3))
    there = f"upstream = http://127.0.0.1:{upstream.port}\n"
    yesterday = time.strftime("%a", time.gmtime(time.mktime(now) - 86400))
    tomorrow = time.strftime("%a", time.gmtime(time.mktime(now) + 86400))
    routes = (
        f"[route /ip]\n{there}require.ip = 192.0.2.0/24, 2001:db8::/32\n[route /shut]\n{there}require.time = {other} 00:00-24:00\n"
        f"[route /open]\n{there}require.time = {other} 09:00-10:00\n  {yesterday} {today} {tomorrow} 00:00-24:00"
    )
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        assert [daemon.get(path).status for path in ("/ip", "/shut", "/open")] == [403, 403, 200]
        assert [shown(row) for row in daemon.rows(3)] == [("policy", "require.ip"), ("policy", "require.time"), ("", "")]


def test_expression(tmp_path: Path, upstream: Upstream) -> None:
    """An expression decides about what nothing else can say; one that fails lets nobody in."""
    users = 'require.expr = claims.level >= 3 || (method == "GET" && "audit" in claims.groups && path.startsWith("/api/"))'
    with gateway(tmp_path, upstream, users=users) as daemon:
        cases = [
            (token(level=3), "POST", 200), (token(level=2, groups=["audit"]), "GET", 200), (token(level=2, groups=["audit"]), "POST", 403),
            (token(level="3"), "GET", 403), (token(), "GET", 403), (token(groups={"audit": 1}, level=1), "GET", 200), (token(level=True), "GET", 403),
        ]  # fmt: skip
        assert [daemon.get(PATH, tok=tok, method=method).status for tok, method, _ in cases] == [status for *_, status in cases]
        assert shown(daemon.rows(7)[2]) == ("policy", "require.expr")


SHADOWS = """
[ip]
deny = 127.0.0.0/8
mode = shadow
[require]
mode = shadow
[body]
max_size = 10
mode = shadow
[breaker]
failures = 1
mode = shadow
"""


def test_shadow(tmp_path: Path, upstream: Upstream) -> None:
    """In shadow mode everything passes; the audit names all that would have refused it."""
    users = "methods = GET, POST\nrequire.role = nobody"
    with gateway(tmp_path, upstream, users=users, rest=SHADOWS, ratelimit="limit = 1\nmode = shadow") as daemon:
        statuses = []
        for status in (503, 200, 200):
            upstream.answer = lambda call, status=status: b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status  # type: ignore[misc]
            statuses.append(daemon.ask(request(PATH, method="POST", body=b"x" * 11)).status)
        with daemon.connect() as client:
            client.send(request(PATH, "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST"))
            assert client.answer().status == 100
            client.send(b"b\r\nxxxxxxxxxxx\r\n0\r\n\r\n")
            chunked = client.answer()
        small = daemon.get(PATH, method="PUT")
        assert [*statuses, chunked.status, small.status] == [503, 200, 200, 200, 200]
        assert (small["X-RateLimit-Remaining"], small.values("Retry-After")) == ("0", [])
        first, second, *_, fourth, fifth = (shown(row) for row in daemon.rows(5))
        assert first == ("", "shadow:address, shadow:policy require.role, shadow:body_size")
        assert second == ("", "shadow:address, shadow:limit 1/60s, shadow:policy require.role, shadow:body_size, shadow:circuit")
        assert fourth[1].endswith("require.role, shadow:circuit, shadow:body_size")
        assert fifth[1].startswith("shadow:address, shadow:limit 1/60s, shadow:method")
        assert len(upstream.calls) == 5
        assert "mode = shadow" in daemon.log.read_text()


def test_shadow_for_one_route(tmp_path: Path, upstream: Upstream) -> None:
    """A route in shadow changes nothing for its neighbours, and its other gates go on to refuse."""
    there = f"upstream = http://127.0.0.1:{upstream.port}\n"
    routes = f"[route /tried]\n{there}require.role = nobody\nrequire.mode = shadow\nbody.max_size = 1\n[route /strict]\n{there}require.role = nobody"
    with gateway(tmp_path, upstream, routes=routes) as daemon:
        assert [daemon.get(path).status for path in ("/tried", "/strict")] == [200, 403]
        assert daemon.ask(request("/tried", method="POST", body=b"xx")).status == 413
        assert [shown(row) for row in daemon.rows(3)] == [("", "shadow:policy require.role"), ("policy", "require.role"), ("body_size", "shadow:policy require.role")]


def test_shadow_lets_no_token_in(tmp_path: Path, upstream: Upstream) -> None:
    """Shadow mode never stands in for a token."""
    with gateway(tmp_path, upstream, rest=SHADOWS, ratelimit="mode = shadow\nrefused = 1/1h") as daemon:
        assert [daemon.get(PATH, tok=tok).status for tok in (None, "a.b.c", "a.b.c", "a.b.c")] == [401] * 4
        assert [shown(row)[1] for row in daemon.rows(4)][-1] == "shadow:address, shadow:limit_refused refused 1/1h"
        assert not upstream.calls


CLAIMS = """
[headers]
claim.X-Department = department
claim.X-Groups = realm.groups
claim.X-Limits = limits
claim.X-Level = level
max_value = 100
"""


@pytest.mark.parametrize(
    ("claims", "sent"),
    [
        ({"department": "finance"}, {"X-Department": ["finance"]}),
        ({"department": "Büro 7, 100 %"}, {"X-Department": ["B%C3%BCro%207%2C%20100%20%25"]}),
        ({"department": "a\r\nX-User-Role: admin"}, {"X-Department": ["a%0D%0AX-User-Role:%20admin"], "X-User-Role": ["admin"]}),
        ({"department": ""}, {"X-Department": [""]}),
        ({"department": None}, {"X-Department": []}),
        ({"realm": {"groups": ["a,b", "ü", 1, True, {"c": [1, 2]}]}}, {"X-Groups": ['a%2Cb,%C3%BC,1,true,{"c":[1%2C2]}'], "X-Department": []}),
        ({"limits": {"a": 1, "b": [2.5, None]}}, {"X-Limits": ['{"a":1%2C"b":[2.5%2Cnull]}']}),
        ({"level": 7}, {"X-Level": ["7"]}),
        ({"level": False}, {"X-Level": ["false"]}),
        ({"department": "a@b@c"}, {"X-Department": ["a%40b%40c"]}),
    ],
)  # fmt: skip
def test_claims_as_headers(claim_daemon: tuple[Upstream, object], claims: dict[str, object], sent: dict[str, list[str]]) -> None:
    """Every kind of claim travels in one line that nothing in it can break."""
    upstream, daemon = claim_daemon
    answer: Answer = daemon.get(PATH, tok=token(**claims))  # type: ignore[attr-defined]
    assert answer.status == 200
    assert {name: upstream.calls[-1].values(name) for name in sent} == sent


@pytest.fixture(scope="module")
def claim_daemon(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A daemon that sends claims on, for many tests."""
    upstream = Upstream()
    there = f"[route /other]\nupstream = http://127.0.0.1:{upstream.port}\nheaders.claim.X-Level =\nheaders.claim.x-department = team"
    with gateway(tmp_path_factory.mktemp("claims"), upstream, rest=CLAIMS, routes=there) as daemon:
        yield upstream, daemon
    upstream.stop()


@pytest.mark.parametrize("value", ["x" * 101, "ü" * 17, ["x" * 50, "x" * 50], {"a": "x" * 95}, "\ud800"])
def test_claims_too_long(claim_daemon: tuple[Upstream, object], value: object) -> None:
    """A claim that can't be sent whole is not sent at all, nor is the request."""
    upstream, daemon = claim_daemon
    before = len(upstream.calls)
    answer: Answer = daemon.get(PATH, tok=token(department=value))  # type: ignore[attr-defined]
    assert (answer.status, answer.error) == (401, "Token validation failed")
    assert len(upstream.calls) == before


SPELLINGS = ["X-Department: root", "x-department: root", "X_Department: root", "x.department: root", "X-DEPARTMENT:root", "X-Department: a\r\nx_department: root", "Connection: X-Department, x_department"]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("claims", [{}, {"department": "finance"}])
@pytest.mark.parametrize("path", [PATH, "/other"])
def test_spoofed_claims(claim_daemon: tuple[Upstream, object], spelling: str, claims: dict[str, str], path: str) -> None:
    """A client's own copy never arrives, in no spelling, on no route, with the claim or without."""
    upstream, daemon = claim_daemon
    tok = token(**claims, team="red")
    body = "\r\nTransfer-Encoding: chunked\r\nTrailer: X-Department"
    raw = request(path, spelling + body, tok=tok, method="POST") + b"1\r\nx\r\n0\r\nX-Department: root\r\nx_department: root\r\nX-Sum: 1\r\n\r\n"
    for _ in range(3):
        assert daemon.ask(raw).status == 200  # type: ignore[attr-defined]
        call = upstream.calls[-1]
        assert b"root" not in call.raw
        assert b"X-Sum: 1" in call.raw
        assert call.values("X-Department") == (list(claims.values()) if path == PATH else ["red"])


def test_a_route_has_its_own_claims(claim_daemon: tuple[Upstream, object]) -> None:
    """A route adds, replaces and takes away."""
    upstream, daemon = claim_daemon
    assert daemon.get("/other", tok=token(team="red", level=3, department="finance")).status == 200  # type: ignore[attr-defined]
    call = upstream.calls[-1]
    assert (call.values("X-Department"), call.values("X-Level")) == (["red"], [])


def test_reload(tmp_path: Path, upstream: Upstream) -> None:
    """A reload ends shadow mode, shuts a public route, and drops the fields of new claims at once."""
    routes = f"[route /open]\nupstream = http://127.0.0.1:{upstream.port}\npublic = yes"
    with gateway(tmp_path, upstream, users="require.role = nobody\nrequire.mode = shadow", routes=routes) as daemon, daemon.connect() as client:

        def ask(path: str, tok: str | None) -> int:
            client.send(request(path, "X-Team: root", tok=tok))
            return client.answer().status

        tok = token(team="red", role="nobody")
        assert [ask(PATH, token()), ask(PATH, tok), ask("/open", None)] == [200, 200, 200]
        assert [call.values("X-Team") for call in upstream.calls] == [["root"]] * 3
        text = daemon.ini.read_text().replace("mode = shadow", "mode = enforce").replace("public = yes", "public = no")
        assert "reloaded" in daemon.reload(text + "headers.claim.X-Team = team\n")
        assert [ask(PATH, token()), ask(PATH, tok), ask("/open", None), ask("/open", tok)] == [403, 200, 401, 200]
        assert [call.values("X-Team") for call in upstream.calls[3:]] == [[], ["red"]]


def check(text: str, folder: Path) -> str:
    """What C{gateway check} prints."""
    (folder / "gateway.ini").write_text("[jwt]\nsecret = 0123456789abcdef0123456789abcdef\n" + text)
    return subprocess.run([sys.executable, "-m", "gateway.cli", "check", str(folder / "gateway.ini")], capture_output=True, text=True, cwd=folder).stdout


def test_check_reads_it_aloud(tmp_path: Path) -> None:
    """The check says what each route asks of which method, sends on, shadows and loosens."""
    printed = check(
        "[headers]\nclaim.X-Team = team\n[route /a]\nupstream = http://a\nmethods = GET, POST, PUT\nrequire.role = a, b\nrequire.scope.GET = r\nrequire.claim.x.POST = 1\n"
        "require.ip = 10.0.0.0/8\nrequire.time = Mon-Fri 08:00-18:00 Europe/Berlin\n 09:00-12:00\nrequire.expr = claims.x == 1\nip.mode = shadow\n"
        "[route /b]\nupstream = http://b\npublic = yes\n",
        tmp_path,
    )
    for line in (
        "exp; role one of a, b; an address in 10.0.0.0/8; the time Mon-Fri 08:00-18:00 Europe/Berlin, or 09:00-12:00 UTC; that claims.x == 1\n",
        "  GET       also scope r\n", "  POST      also x one of 1\n", "  others    nothing more (PUT)\n", "  header    X-Team: team\n",
        "  SHADOW    ip: what they would refuse passes\n", "  LOOSENED  [ip] in shadow mode: what it would refuse passes\n",
        "  requires  nothing: public\n", "  LOOSENED  no token is asked for\n", "for each ip (sliding-window, the common counter)\n", "2 routes, no problem found",
    ):  # fmt: skip
        assert line in printed, line
    assert json.dumps(printed).count("X-Team") == 1
