"""Tests for gateway.issuers.sources: what of the issuers survives a reload."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from gateway.admission.issuers import Issuers
from gateway.admission.tokens import Verifier
from gateway.issuers.sources import Nobody, Sources
from gateway.keys import hmac_key
from gateway.settings import parse
from gateway.verdicts import Reason, Refused

ROUTE = "[route /a]\nupstream = http://127.0.0.1:1\n"
KEY = hmac_key(b"k" * 32, ["HS256"])


def corp(name: str = "corp", more: str = "") -> str:
    """An issuer whose keys are in a file that is not there any more."""
    return f"[issuer {name}]\nissuer = {name}\njwks = https://{name}/\n{more}"


def sources(text: str, before: Sources | None = None) -> Sources:
    """Those of a file."""
    clock: Any = Clock()
    return Sources(parse(text + ROUTE, {}), clock, clock.seconds, clock.seconds, before)


def test_what_is_the_same_goes_on() -> None:
    """An issuer whose section has not changed is the same object, with its keys; another is made anew, one that has gone is stopped."""
    first = sources(corp("a") + corp("b") + corp("c"))
    first.hold()
    second = sources(corp("b", "leeway = 1s\n") + corp("a"), first)
    old = {source.name: source for source in first.issuers.values()}
    new = {source.name: source for source in second.issuers.values()}
    assert new["a"] is old["a"]
    assert new["b"] is not old["b"]
    second.hold()
    assert set(new) == {"a", "b"}


def test_introspection_goes_on() -> None:
    """What is known of opaque tokens survives a reload in which [introspection] stays as it is."""
    asked = "[introspection]\nurl = https://a/\nclient_id = a\nclient_secret = b\n"
    first = sources(asked)
    first.hold()
    second = sources(asked + corp(), first)
    assert second.asked is first.asked
    second.hold()
    third = sources(asked + "timeout = 1s\n", second)
    assert third.asked is not second.asked
    third.hold()
    third.stop()


def test_who_verifies() -> None:
    """The local key alone is asked directly; without any key nobody's token passes."""
    none = "[jwt]\nsecret = " + "k" * 32 + "\n"
    assert type(sources(none).verifier(KEY)) is Verifier
    assert type(sources(corp()).verifier(None)) is Issuers
    nobody = sources(none).verifier(None)
    assert type(nobody) is Nobody
    found = nobody.verify(b"a.b.c")
    assert isinstance(found, Refused)
    assert found.reason is Reason.TOKEN
