"""Tests for gateway.settings.issuers: which identity providers a file may name, and how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.build import Rules
from gateway.buildidentity import identity_rules
from gateway.cli import effective
from gateway.settings import Settings, SettingsError, parse
from tests.system.issuer import private_key, public_jwk

ROUTE = "[route /a]\nupstream = http://127.0.0.1:1\n"
CORP = "[issuer corp]\nissuer = https://corp\njwks = https://corp/keys\n"


def settings(text: str, directory: str = ".", **environ: str) -> Settings:
    """A file's."""
    return parse(text + "\n" + ROUTE, environ, directory=directory)


def problem(text: str, directory: str = ".") -> str:
    """The one problem."""
    with pytest.raises(SettingsError) as caught:
        settings(text, directory)
    assert len(caught.value.problems) == 1, caught.value
    return str(caught.value.problems[0])


def test_defaults() -> None:
    """Two lines make an issuer: RS256 and ES256, access tokens, an hour's keys kept for a day. [jwt] needs no key then."""
    found = settings(CORP)
    assert not found.jwt.has_key
    (corp,) = found.issuers
    assert (corp.name, corp.issuer, corp.jwks, corp.discovery, corp.file) == ("corp", "https://corp", "https://corp/keys", "", "")
    assert (corp.algorithms, corp.token_types) == (("RS256", "ES256"), ("at+jwt", "jwt"))
    assert (corp.refresh_min, corp.refresh_max, corp.refresh_unknown, corp.keep) == (60, 86400, 10, 86400)
    assert (corp.waiting, corp.patience, corp.fetch_timeout, corp.own) == (100, 1, 10, ())


def test_warnings() -> None:
    """An issuer that is asked for no audience, or in the clear, is warned about."""
    local = "[issuer corp]\nissuer = https://corp\njwks = http://127.0.0.1/keys\n"
    assert [text.partition(" ")[2] for text in settings(local).warnings] == [
        "corp] has its keys in the clear, which is for trying things out",
        "corp] asks for no audience: a token that it made for any other service is good here",
    ]
    assert settings(CORP + "audience = a").warnings == ()
    assert settings(CORP + "[jwt]\naudience = a").warnings == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[issuer]\nissuer = a\njwks = https://a/", "expected [issuer NAME]"),
        ("[issuer jwt]\nissuer = a\njwks = https://a/", "not jwt or introspection"),
        ("[issuer a/b]\nissuer = a\njwks = https://a/", "expected [issuer NAME]"),
        ("[issuer a]\njwks = https://a/", "issuer: missing"),
        ("[issuer a]\nissuer = a", "discovery: expected one of discovery and jwks"),
        ("[issuer a]\nissuer = a\njwks = https://a/\ndiscovery = https://a/", "expected one of discovery and jwks"),
        ("[issuer a]\nissuer = a\njwks = http://a/", "http is for 127.0.0.1"),
        ("[issuer a]\nissuer = a\ndiscovery = https://169.254.169.254/", "never asked"),
        ("[issuer a]\nissuer = a\ndiscovery = keys.json", "expected: a URL"),
        ("[issuer a]\nissuer = a\njwks = missing.json", "missing.json can't be read"),
        ("[issuer a]\nissuer = a\njwks = https://a/\nalgorithms = HS256", "one or more of RS256"),
        ("[issuer a]\nissuer = a\njwks = https://a/\nalgorithms = none", "one or more of RS256"),
        ("[issuer a]\nissuer = a\njwks = https://a/\nrole_claim =", "empty"),
        ("[issuer a]\nissuer = a\njwks = https://a/\nrefresh_min = 2h\nrefresh_max = 1h", "more than refresh_max"),
        ("[issuer a]\nissuer = a\njwks = https://a/\nca_file = missing.pem", "missing.pem can't be read"),
        ("[issuer a]\nissuer = a\njwks = https://a/\naudiance = b", 'did you mean "audience"'),
        (CORP + "[issuer b]\nissuer = https://corp\njwks = https://b/", "[issuer corp] has that iss already"),
        (CORP + "[jwt]\nissuer = https://corp\nsecret = " + "s" * 40, "[jwt] has that iss already"),
        (CORP + "[route /b]\nupstream = http://127.0.0.1:1\nissuers = corp, x", "there is no issuer x; known are corp"),
        (CORP + "[route /b]\nupstream = http://127.0.0.1:1\nissuers = jwt", "there is no issuer jwt"),
        (CORP + "[jwt]\nalgorithms = RS256", "public_key_file"),
        (CORP + "[issuers corp]\nissuer = a", 'did you mean "issuer"'),
        ("[introspection]\nurl = http://a/\nclient_id = a\nclient_secret = b", "http is for 127.0.0.1"),
        ("[introspection]\nurl = https://a/\nclient_id = a", "expected both"),
        ("[introspection]\nurl = https://a/\nclient_secret = a", "expected both"),
        ("[introspection]\nurl = https://a/\nclient_id = a\nclient_secret_file = missing", "missing can't be read"),
        (CORP + "[introspection]\nclient_id = a", "url: missing"),
    ],
)  # fmt: skip
def test_problems(text: str, says: str) -> None:
    """What is wrong is told at its line."""
    assert says in problem(text)


def test_two_of_one_name() -> None:
    """A name has one section."""
    with pytest.raises(SettingsError, match="this issuer stands there already, in line 1"):
        settings(CORP + CORP.replace("https://corp\n", "https://other\n"))


def test_a_file(tmp_path: Path) -> None:
    """A file of keys is read when the configuration is, beside which it lies."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [public_jwk(private_key("ES256"), "ES256", kid="a")]}))
    text = "[issuer a]\nissuer = a\njwks = keys.json"
    assert settings(text, str(tmp_path)).issuers[0].file == str(path)
    path.write_text("{}")
    assert "keys.json: not a key set" in problem(text, str(tmp_path))


def test_introspection_alone() -> None:
    """[introspection] alone is enough, too; its secret never shows, and comes from a file as well."""
    text = "[introspection]\nurl = https://a/\nclient_id = gw\nclient_secret = ${S}\n"
    found = settings(text, S="hidden-secret").introspection
    assert found is not None
    assert found.client_secret.reveal() == b"hidden-secret"
    assert "hidden" not in repr(found)
    assert found == settings(text, S="hidden-secret").introspection
    assert found != settings(text, S="other").introspection


def rules(text: str, route: int = 0) -> dict[str, tuple[object, ...]]:
    """What is asked of each issuer's tokens on a route."""
    found = parse(text, {"S": "s" * 40})
    at = found.routes[route]
    made = identity_rules(found, at.jwt, at.headers, Rules().of, False, at.issuers, at.overrides)
    return {
        name: (each.issuer, sorted(each._audiences), each.leeway, each.require_exp, each.role_claim, each.default_role)
        for name, each in made._rules.items()  # type: ignore[attr-defined]
    }


def test_whose_word_holds() -> None:
    """The route's, else the issuer's, else that of [jwt]; an empty audience of a route takes none away."""
    text = CORP + "audience = own, too\nleeway = 5s\n[jwt]\nsecret = ${S}\naudience = common\nrole_claim = roles\n" + ROUTE
    text += "[route /b]\nupstream = http://127.0.0.1:1\njwt.audience = b\njwt.leeway = 0s\n"
    text += "[route /c]\nupstream = http://127.0.0.1:1\njwt.audience =\nissuers = corp\n"
    assert rules(text) == {
        "": ("", ["common"], 0.0, True, "roles", "user"),
        "corp": ("https://corp", ["own", "too"], 5.0, True, "roles", "user"),
    }
    assert rules(text, 1)["corp"] == ("https://corp", ["b"], 0.0, True, "roles", "user")
    assert rules(text, 2) == {"corp": ("https://corp", ["own", "too"], 5.0, True, "roles", "user")}


def test_check_says_whose_tokens_are_good() -> None:
    """Gateway check prints for each route whose tokens are good there, and for whom they must be meant."""
    text = CORP + "[jwt]\nsecret = ${S}\n[introspection]\nurl = https://i/\nclient_id = a\nclient_secret = b\n" + ROUTE
    text += "[route /b]\nupstream = http://127.0.0.1:1\nissuers = corp\njwt.audience = b\n"
    printed = effective(parse(text, {"S": "s" * 40}))
    assert (
        "  requires  a valid token (HS256) or a token of corp (https://corp; RS256, ES256) for any audience"
        " or a token that https://i/ says is active; exp\n"
    ) in printed
    assert "  requires  a token of corp (https://corp; RS256, ES256) for b; exp\n" in printed
