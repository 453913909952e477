"""Where a setting comes from."""

from __future__ import annotations

from dataclasses import replace

from gateway.settings import parse

INI = """[gateway]
listen = tcp:1
    tcp:2
[jwt]
secret = ${S}
[ratelimit]
limit = 20
[route /api/]
upstream = http://127.0.0.1:9
ratelimit.window = 5s
require.claim.team = x
"""


def test_lines_and_defaults() -> None:
    """A route's own option before the section's, that before the default."""
    origins = parse(INI, {"S": "s" * 40}, name="my.ini").origins
    told = [str(origins.of("ratelimit", name, "/api")) for name in ("limit", "window", "algorithm")]
    assert told == [
        "ratelimit.limit = 20 (my.ini line 7)",
        "[route /api] ratelimit.window = 5s (my.ini line 10)",
        "ratelimit.algorithm = sliding-window (default)",
    ]
    assert str(origins.of("ratelimit", "window")) == "ratelimit.window = 60s (default)"
    assert str(origins.of("gateway", "listen")) == "gateway.listen = tcp:1, tcp:2 (my.ini line 2)"
    assert str(origins.route("/api", "keep_host")) == "[route /api] keep_host = no (default)"
    assert [str(each) for each in origins.section("route /api")] == ["[route /api] (my.ini line 8)"]
    assert [each.option for each in origins.starting("route /api", ("require.",))] == ["require.claim.team"]


def test_secrets_are_not_told() -> None:
    """Neither a secret nor what came from the environment is part of an origin."""
    settings = parse(INI.replace("tcp:1", "${L}"), {"S": "s" * 40, "L": "tcp:99"})
    assert str(settings.origins.of("jwt", "secret")) == "jwt.secret = (hidden) (gateway.ini line 5)"
    assert "tcp:99" not in str(settings.origins.of("gateway", "listen"))


def test_origins_change_nothing() -> None:
    """Two files that mean the same are equal wherever their lines stand."""
    one, other = (parse(text, {"S": "s" * 40}) for text in (INI, "\n\n" + INI))
    assert str(one.origins.of("ratelimit", "limit")) != str(other.origins.of("ratelimit", "limit"))
    assert replace(one, origins=other.origins) == one
