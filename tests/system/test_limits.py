"""Limits people ask for, by the real daemon: windows, costs, plans, names, the draft's fields, refused tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.system.tools import Answer, Daemon, Upstream, gateway, request, token


def route(upstream: Upstream, prefix: str, *options: str) -> str:
    """A route's section."""
    return "\n".join([f"[route {prefix}]", f"upstream = http://127.0.0.1:{upstream.port}", *options, ""])


def limit(answer: Answer) -> str:
    """The limit that a 429 names."""
    assert (answer.status, answer.error) == (429, "Rate limit exceeded")
    return str(json.loads(answer.body)["limit"])


def told(answer: Answer) -> tuple[str, str]:
    """X-RateLimit-Limit and -Remaining."""
    return answer["X-RateLimit-Limit"], answer["X-RateLimit-Remaining"]


def test_several_windows(tmp_path: Path, upstream: Upstream) -> None:
    """A request passes only while each window has room; the answer, its fields and the audit name the one that refuses."""
    with gateway(tmp_path, upstream, ratelimit="limits = 2/1h, 3/1d", routes=route(upstream, "/own", "ratelimit.limits = 1/1h, 9/1d")) as daemon:
        answers = [daemon.get() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [told(answer) for answer in answers] == [("2", "1"), ("2", "0"), ("2", "0")]
        assert limit(answers[2]) == "2/1h"
        assert answers[2]["RateLimit-Policy"] == '"2/1h";q=2;w=3600, "3/1d";q=3;w=86400'
        assert re.fullmatch(r'"2/1h";r=0;t=\d+', answers[2]["RateLimit"])
        assert answers[2]["RateLimit"].endswith(f"t={answers[2]['Retry-After']}")
        assert [daemon.get("/own/x").status, limit(daemon.get("/own/x"))] == [200, "/own 1/1h"]
        rows = daemon.rows(5)
    assert [(row["status"], row["reason"], row["detail"]) for row in rows] == [
        (200, "", ""), (200, "", ""), (429, "limit", "2/1h"), (200, "", ""), (429, "limit", "/own 1/1h"),
    ]  # fmt: skip


def test_a_refused_request_counts_in_no_window(tmp_path: Path, upstream: Upstream) -> None:
    """What the short window refuses leaves the long one as it was: its limit is reached by what has passed alone."""
    with gateway(tmp_path, upstream, ratelimit="limits = 2/1s, 5/1h") as daemon:
        passed = refused = 0
        while passed < 5:
            answer = daemon.get()
            if answer.status == 200:
                passed += 1
                assert told(answer) in {("2", "1"), ("2", "0"), ("5", str(5 - passed))}
            else:
                refused += 1
                assert limit(answer) == "2/1s"
        last = daemon.get()
        assert (limit(last), refused > 0) == ("5/1h", True)


def test_costs(tmp_path: Path, upstream: Upstream) -> None:
    """Requests of a dear route or method count for more in the common counter; one too dear for what is left counts nothing."""
    routes = route(upstream, "/dear", "ratelimit.cost = 5") + route(upstream, "/write", "ratelimit.cost.POST = 4")
    with gateway(tmp_path, upstream, ratelimit="limit = 10", routes=routes) as daemon:
        assert told(daemon.get()) == ("10", "9")
        assert told(daemon.get("/dear/x")) == ("10", "4")
        refused = daemon.get("/dear/x")
        assert (limit(refused), told(refused)) == ("10/60s", ("10", "0"))
        assert told(daemon.get("/write/x")) == ("10", "3")
        assert daemon.ask(request("/write/x", method="POST", body=b"x")).status == 429
        assert [told(daemon.get())[1] for _ in range(3)] == ["2", "1", "0"]
        assert daemon.get().status == 429


def test_plans(tmp_path: Path, upstream: Upstream) -> None:
    """The token's plan chooses the limit; without one, or with an unknown one, the common limit holds; a route's own comes first."""
    rest = "[plan gold]\nlimits = 3/1h, 9/1d\n[plan free]\nlimit = 1\n"
    with gateway(tmp_path, upstream, ratelimit="limit = 2\nplan_claim = org.plan", rest=rest, routes=route(upstream, "/own", "ratelimit.limit = 4")) as daemon:

        def of(sub: str, plan: object) -> str:
            return token(sub, org={"plan": plan})

        for plan, most, name in (("gold", 3, "gold 3/1h"), ("free", 1, "free 1/60s"), ("none", 2, "2/60s"), (["gold"], 2, "2/60s"), (7, 2, "2/60s")):
            mine = of(f"user-{plan}", plan)
            assert [daemon.get(tok=mine).status for _ in range(most)] == [200] * most
            assert limit(daemon.get(tok=mine)) == name
            assert told(daemon.get("/own/x", tok=mine)) == ("4", "3")
        assert [daemon.get(tok=token("plain")).status for _ in range(3)] == [200, 200, 429]
        assert daemon.get(tok=of("user-free", "gold"))["RateLimit"].startswith('"gold 3/1h";r=2;t=')


FIELDS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit")


def test_the_drafts_fields(shared: Daemon, upstream: Upstream) -> None:
    """RateLimit and RateLimit-Policy stand once on answers and refusals, and an upstream's own are dropped."""
    upstream.answer = lambda _: (
        b'HTTP/1.1 200 OK\r\nRateLimit: "evil";r=9\r\nRATELIMIT-policy: "evil";q=9\r\nX-RateLimit-Limit: 9\r\nContent-Length: 2\r\n\r\nok'
    )
    answers = [shared.get("/limited/x", tok=token("fields")) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    for answer, left in zip(answers, (2, 1, 0, 0), strict=True):
        assert all(len(answer.values(name)) == 1 for name in FIELDS)
        assert answer["RateLimit-Policy"] == '"/limited";q=3;w=60'
        policy, remaining, seconds = answer["RateLimit"].split(";")
        assert (policy, remaining) == ('"/limited"', f"r={left}")
        assert 1 <= int(seconds.removeprefix("t=")) <= 65
    assert shared.get("/none", tok=token("fields"))["RateLimit-Policy"] == '"default";q=100000;w=60'


def test_without_the_drafts_fields(tmp_path: Path, upstream: Upstream) -> None:
    """ietf_headers = no leaves X-RateLimit-* alone, on answers and on refusals."""
    with gateway(tmp_path, upstream, ratelimit="limit = 1\nietf_headers = no") as daemon:
        for status in (200, 429):
            answer = daemon.get()
            assert answer.status == status
            assert [len(answer.values(name)) for name in FIELDS] == [1, 1, 1, 0, 0]


def test_refused_tokens(tmp_path: Path, upstream: Upstream) -> None:
    """Beyond the limit new tokens of that address get 429 unverified; known ones, other addresses and requests without a token go on as ever."""
    proxies = "trusted_proxies = 127.0.0.1"
    with gateway(tmp_path, upstream, gateway=proxies, ratelimit="refused = 3/1h") as daemon:

        def get(tok: str | None, address: str) -> Answer:
            return daemon.get("/api/v1/users/7", f"X-Forwarded-For: {address}", tok=tok)

        known = token("known")
        assert get(known, "192.0.2.7").status == 200
        bad = known[:-6] + "AAAAAA"
        assert [get(None, "192.0.2.7").status for _ in range(5)] == [401] * 5
        assert [get(bad, "192.0.2.7").error for _ in range(2)] == ["Invalid token signature"] * 2
        assert get(token("late", exp=1), "192.0.2.7").error == "Token expired"
        refused = get(bad, "192.0.2.7")
        assert limit(refused) == "refused 3/1h"
        assert int(refused["Retry-After"]) > 0
        assert told(refused) == ("3", "0")
        assert refused["RateLimit-Policy"] == '"refused";q=3;w=3600'
        assert get(token("good but new"), "192.0.2.7").status == 429
        assert get(known, "192.0.2.7").status == 200
        lower = request("/api/v1/users/7", "X-Forwarded-For: 192.0.2.7", f"authorization: bearer {known}", tok=None)
        assert daemon.ask(lower).status == 200
        assert get(None, "192.0.2.7").status == 401
        assert get(token("good but new"), "192.0.2.8").status == 200
        assert get(bad, "192.0.2.8").status == 401
        rows = daemon.rows(where="reason = 'limit_refused'", least=2)
    assert [(row["status"], row["detail"], row["user_id"], row["ip"]) for row in rows] == [(429, "refused 3/1h", "anonymous", "192.0.2.7")] * 2


def test_refused_tokens_until_there_is_room(tmp_path: Path, upstream: Upstream) -> None:
    """After Retry-After new tokens of that address are verified again; what was refused unverified has not counted."""
    with gateway(tmp_path, upstream, ratelimit="refused = 2/1s") as daemon:
        statuses = []
        while 429 not in statuses:
            statuses.append(daemon.get(tok=token()[:-6] + "AAAAAA").status)
        assert set(statuses) == {401, 429}
        fresh = token("fresh")
        while (status := daemon.get(tok=fresh).status) != 200:
            assert status == 429


def test_the_audit_tool_tells_the_limit(tmp_path: Path, upstream: Upstream) -> None:
    """`gateway audit` shows which limit refused."""
    from gateway.audit.query import last_rows, table

    with gateway(tmp_path, upstream, ratelimit="limit = 1") as daemon:
        assert [daemon.get().status for _ in range(2)] == [200, 429]
        daemon.rows(2)
        text = table(last_rows(str(tmp_path / "audit.sqlite3"), 5))
    assert re.search(r"429 .* limit +/api/v1/users +1/60s", text)


CHECKED = """
[jwt]
secret = 0123456789abcdef0123456789abcdef
[ratelimit]
limits = 10/1s, 100/60s
plan_claim = plan
refused = 30/60s
[plan gold]
algorithm = gcra
burst = 5
limit = 1000
[route /a]
upstream = http://127.0.0.1:1
ratelimit.cost = 2
ratelimit.cost.POST = 5
[route /b]
upstream = http://127.0.0.1:1
ratelimit.limit = 20
"""


def test_check_tells_the_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gateway check` prints each route's windows, plans and costs as they hold."""
    from gateway.cli import main

    ini = tmp_path / "gateway.ini"
    ini.write_text(CHECKED + f"[audit]\ndatabase = {tmp_path}/a\n")
    assert main(["check", str(ini)]) == 0
    first, second = capsys.readouterr().out.split("\n\n")[:2]
    assert "  limit     10 in 1 s, 100 in 60 s for each sub (sliding-window, the common counter)\n" in first
    assert "  plan      gold: 1000 in 60 s (gcra, burst 5), where plan is gold\n" in first
    assert "  cost      a request counts as 2, POST as 5\n" in first
    assert "  refused   30 in 60 s: tokens of one address\n" in first
    assert "  limit     20 in 60 s for each sub (sliding-window, a counter of its own)\n" in second
    assert "gold" not in second
    assert "  LOOSENED  20 requests in 60 s instead of 10 in 1 s, 100 in 60 s" in second
