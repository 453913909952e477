"""Tests for what routes ask of those who call, as text: gateway.settings.require and .headers."""

from __future__ import annotations

import pytest

from gateway.settings import RouteSettings, SettingsError, parse

HEAD = "[jwt]\nsecret = 0123456789abcdef0123456789abcdef\n"
ROUTE = "[route /a]\nupstream = http://a\n"


def route(text: str, common: str = "") -> RouteSettings:
    """A route with some options."""
    return parse(HEAD + common + ROUTE + text, {}).routes[0]


def problem(text: str, common: str = "") -> str:
    """The one problem of a route's options, at line 5 unless the common part has it."""
    with pytest.raises(SettingsError) as caught:
        route(text, common)
    (found,) = caught.value.problems
    return str(found)


@pytest.mark.parametrize(
    ("text", "days", "begins", "ends", "zone"),
    [
        ("Mon-Fri 08:00-18:00 Europe/Berlin", (0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin"), ("09:00-10:30", tuple(range(7)), 540, 630, "UTC"),
        ("Fri-Mon 22:00-06:00 America/Argentina/Buenos_Aires", (4, 5, 6, 0), 1320, 360, "America/Argentina/Buenos_Aires"),
        ("Sat Sun 00:00-24:00 Etc/GMT+5", (5, 6), 0, 1440, "Etc/GMT+5"), ("Wed 12:00-00:00", (2,), 720, 0, "UTC"),
    ],
)  # fmt: skip
def test_hours(text: str, days: tuple[int, ...], begins: int, ends: int, zone: str) -> None:
    """Days, hours and zone, each but the hours with a default."""
    (span,) = route("require.time = " + text).requirements.time
    assert (span.days, span.begins, span.ends, span.zone) == (days, begins, ends, zone)


def test_several_hours() -> None:
    """By commas or by lines."""
    found = route("require.time = Mon 08:00-09:00, Tue 08:00-09:00\n  Wed 08:00-09:00").requirements.time
    assert [span.days for span in found] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    "text",
    [
        "Mon-Fri", "Mo 08:00-18:00", "mon 08:00-18:00", "8:00-18:00", "08:00-18", "08:00 - 18:00", "08:00-24:01", "24:00-25:00", "24:00-08:00", "08:00-08:00",
        "08:60-09:00", "08:00-18:00 Europe/Berln", "08:00-18:00 ../etc/passwd", "08:00-18:00 /etc/localtime", "08:00-18:00 +01:00", "08:00-18:00 Europe/Berlin now",
        "Mon,Tue 08:00-18:00", "08:00-18:00 Europe",
    ],
)  # fmt: skip
def test_no_hours(text: str) -> None:
    """What could be misread is refused with its line."""
    assert problem("require.time = " + text).startswith("gateway.ini:5: [route /a] require.time: ")


def test_a_zone_that_is_near() -> None:
    """A slip in a zone's name is told with the right one."""
    assert 'did you mean "Europe/Berlin"?' in problem("require.time = 08:00-18:00 Europe/Berln")


def test_by_method() -> None:
    """Roles, scopes and claims by method; a claim's own dots stay its own."""
    found = route("require.role = a, b\nrequire.role.DELETE = b\nrequire.scope.PROPFIND = x\nrequire.claim.a.b = 1\nrequire.claim.a.b.POST = 2\nrequire.claim.BREW = 3\nrequire.claim.x.Post = 4").requirements
    assert found.role == (("", ("a", "b")), ("DELETE", ("b",)))
    assert found.scope == (("PROPFIND", ("x",)),)
    assert found.claims == (("", "a.b", ("1",)), ("POST", "a.b", ("2",)), ("", "BREW", ("3",)), ("", "x.Post", ("4",)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("require.role.post = a", "the method in capitals behind it, such as require.role.POST"), ("require.scope.A.B = a", "the method in capitals"),
        ("require.role.POST =", "empty; expected a list"), ("require.claim.x =", "empty; expected a list"), ("require.claim. = x", "expected require.claim.NAME"),
        ('require.scope = a"b', "RFC 6749 section 3.3"), ("require.rolle = a", 'did you mean "require.role"?'), ("require.mode = off", "one of enforce, shadow"),
        ("require.ip = 10.0.0.1/8", "10.0.0.0/8: 10.0.0.1/8 has bits set"), ("public = maybe", "yes or no"),
    ],
)  # fmt: skip
def test_bad_requirements(text: str, says: str) -> None:
    """Each with its line and what was expected."""
    found = problem(text)
    assert found.startswith("gateway.ini:5: [route /a] ")
    assert says in found


@pytest.mark.parametrize("text", ["require.role = a", "require.scope = a", "require.claim.x.POST = 1", "jwt.issuer = x", "headers.claim.X-A = a", "ratelimit.key = sub"])
def test_public_asks_nothing_of_a_token(text: str) -> None:
    """A public route that asks something of a token is a contradiction, told as one."""
    assert "public = yes" in problem(text + "\npublic = yes")


def test_public() -> None:
    """It counts by address in the common counter, sends no claims, and is told as loosened."""
    found = route("public = yes", "[headers]\nclaim.X-A = a\n")
    assert (found.ratelimit.key, found.own_counter, found.headers.claims) == ("ip", False, ())
    assert found.loosened == ("no token is asked for",)
    assert route("public = yes\nratelimit.key = ip\nratelimit.limit = 5").own_counter


def test_modes() -> None:
    """Of each gate, for all and for one route; a mode of its own makes no counter of its own."""
    common = "[ip]\nmode = shadow\n[breaker]\nmode = shadow\n"
    settings = parse(HEAD + common + ROUTE + "ip.mode = enforce\nratelimit.mode = shadow\nrequire.mode = shadow\n[route /b]\nupstream = http://b\nbody.mode = shadow", {})
    first, second = settings.routes
    assert (settings.shadowed, first.shadowed, second.shadowed) == (("ip", "breaker"), ("ratelimit", "require", "breaker"), ("ip", "body", "breaker"))
    assert not first.own_counter
    assert first.loosened == ("[ratelimit] in shadow mode: what it would refuse passes", "[require] in shadow mode: what it would refuse passes")
    assert settings.warnings == (
        "[ip] mode = shadow: what it would refuse passes", "[breaker] mode = shadow: what it would refuse passes",
        "[route /a] ratelimit, require in shadow mode: what they would refuse passes", "[route /b] body in shadow mode: what they would refuse passes",
    )  # fmt: skip


def test_claims_as_headers() -> None:
    """A route adds, replaces in any spelling, and takes away; all names are known to the head's parser."""
    settings = parse(HEAD + "[headers]\nclaim.X-Team = team\nclaim.X-Level = level\n" + ROUTE + "headers.claim.x_team = group.name\nheaders.claim.X-Level =\nheaders.claim.X.New = new\n[route /b]\nupstream = http://b", {})
    assert settings.routes[0].headers.claims == (("x_team", "group.name"), ("X.New", "new"))
    assert settings.routes[1].headers is settings.headers
    assert settings.claim_fields == {b"x-team", b"x-level", b"x-new"}


TAKEN = (
    "Host Connection keep-alive TE Trailer Transfer-Encoding transfer_encoding Content-Length Content-Type Upgrade Authorization Cookie Expect Via Origin User-Agent "
    "X-User-ID x_user_role X.Request.ID X-Forwarded-For X-Forwarded-Anything Forwarded X-Real-IP X-RateLimit-Limit Proxy-Authorization HTTP2-Settings X-Gateway-Assertion "
    "DPoP X-HTTP-Method-Override Access-Control-Allow-Origin If-Match Accept Accept-Language"
)  # fmt: skip


@pytest.mark.parametrize("name", TAKEN.split())
def test_fields_that_are_taken(name: str) -> None:
    """Framing, hop-by-hop and the gateway's own fields carry no claims, in no spelling."""
    assert "is not to be set so" in problem(f"headers.claim.{name} = x")


@pytest.mark.parametrize("text", ["claim.X-A = a b", "claim.X-A = a\nclaim.x_a = b", "claim. = a", "claim.-X = a", "claim.X:A = a", "clam.X-A = a", "max_value = 1"])
def test_bad_headers(text: str) -> None:
    """What is no field or no claim is told with its line."""
    with pytest.raises(SettingsError):
        route("", "[headers]\n" + text + "\n")
    with pytest.raises(SettingsError):
        route("\n".join("headers." + line for line in text.split("\n")))


def test_the_client_addresss_is_not_a_claim() -> None:
    """The field that names the client can't be the one that services get a claim in."""
    assert "client_address_header: is a field that services get a claim in" in problem("headers.claim.X-Client = a", "[gateway]\nclient_address_header = X_Client\n")


def test_requirements_loosen_nothing() -> None:
    """Whatever a route requires, nothing is loosened; what says who somebody is may be, and is told."""
    strict = "methods = GET\nrequire.role = a\nrequire.role.GET = b\nrequire.scope = s\nrequire.claim.x = 1\nrequire.ip = 10.0.0.0/8\nrequire.time = Mon 08:00-09:00\nrequire.expr = false\nheaders.claim.X-A = a\n"
    assert route(strict).loosened == ()
    assert route(strict + "jwt.role_claim = colour").loosened == ("the role is what colour says instead of role",)
