# -*- test-case-name: tests.explain.test_stages -*-
"""
Says of each stage what it saw, why it decided as it did, and by which settings; decides
nothing: the verdict is the stage's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.admission.addresses import Networks
from gateway.admission.key_limits import OWNER
from gateway.admission.ratelimit import limit_key
from gateway.admission.tokens import bearer
from gateway.explain.credentials import words
from gateway.explain.run import Seen
from gateway.explain.tokens import (
    moment,
    opaque,
    shown,
    voucher,
    why_invalid,
    why_not_issuers,
    why_opaque,
    why_unsigned,
)
from gateway.settings.origins import Origin
from gateway.settings.sections import ASKED, LOCAL
from gateway.verdicts import Refused


class Told(NamedTuple):
    """What a stage saw, why it decided so, and the settings it went by."""

    saw: str
    why: str
    settings: list[Origin]


def _settings(seen: Seen, section: str, *names: str) -> list[Origin]:
    """Options as they hold for the request's route."""
    origins = seen.settings.origins
    return [origins.of(section, name, seen.route) for name in names]


def _deciding(seen: Seen, section: str, *names: str) -> list[Origin]:
    """The same, but only those that stand in the file, if any does."""
    found = _settings(seen, section, *names)
    return [each for each in found if each.line] or found[:1]


def _audited(seen: Seen, passed: bool) -> Told:
    return Told(seen.exchange.request_id.decode(), "there would be one row, whatever happens",
                _settings(seen, "audit", "database"))  # fmt: skip


def _peer(seen: Seen, passed: bool) -> Told:
    exchange = seen.exchange
    header = seen.parts.client_address_header
    saw = f"peer {exchange.peer or 'unix'}"
    named = [value for name, value in seen.face.head.noted if name == header.lower().encode()]
    if named:
        saw += f", {header}: {b', '.join(named).decode('latin-1')}"
    address = exchange.address.text if exchange.address is not None else "unknown"
    if not exchange.trusted:
        ignored = f", its {header} is ignored" if named else ""
        why = f"the peer is no trusted proxy: it is its own client{ignored}"
    elif not passed:
        why = f"a trusted proxy names its client in {header} in a way nobody can read"
    elif named:
        why = f"a trusted proxy says in {header} that the client is {address}"
    else:
        why = f"a trusted proxy says nothing: it is its own client, {address}"
    return Told(saw, why, _deciding(seen, "gateway", "trusted_proxies", "client_address_header"))


def _looked_up(seen: Seen, passed: bool) -> Told:
    path = seen.exchange.path.decode("latin-1")
    origins = seen.settings.origins
    if not passed:
        return Told(path, "the path does not mean one thing only, or leads elsewhere once it "
                    "is decoded", [])  # fmt: skip
    if not seen.route:
        return Told(path, "no route takes it, which is told after authentication", [])
    rest = seen.exchange.rest.decode("latin-1")
    why = f"the longest prefix is {seen.route}; the rest is {rest}"
    return Told(path, why, origins.section(f"route {seen.route}"))


def _filtered(seen: Seen, passed: bool) -> Told:
    address = seen.exchange.address
    text = address.text if address is not None else "unknown"
    terms = seen.exchange.terms or seen.parts.terms
    settings = _deciding(seen, "ip", "deny", "allow")
    if terms.addresses.open:
        return Told(text, "there is neither allow nor deny", [])
    by_section = next((r.ip for r in seen.settings.routes if r.prefix == seen.route), None)
    rules = by_section or seen.settings.ip
    for name, networks in (("deny", rules.deny), ("allow", rules.allow)):
        inside = [each for each in networks if address is not None and address in Networks([each])]
        if inside:
            return Told(text, f"{inside[0]} in {name} holds it", _settings(seen, "ip", name))
    why = "allow does not hold it" if rules.allow else "deny does not hold it"
    return Told(text, why, settings)


def _cors(seen: Seen, passed: bool) -> Told:
    origin = [value for name, value in seen.face.head.noted if name == b"origin"]
    saw = seen.face.method.decode() + (f", Origin: {origin[0].decode('latin-1')}" if origin else "")
    cors = (seen.exchange.terms or seen.parts.terms).cors
    if cors is None or not cors.enabled:
        return Told(saw, "CORS is off", _settings(seen, "cors", "enabled"))
    if not passed:
        return Told(saw, "OPTIONS is answered here, without a token",
                    _settings(seen, "cors", "enabled"))  # fmt: skip
    allowed = b"Access-Control-Allow-Origin" in cors.lines(origin[0] if origin else None)
    why = "scripts of this origin may read the answer" if allowed else "no script may read it"
    return Told(saw, why if origin else "not OPTIONS", _settings(seen, "cors", "allow_origin"))


def _health(seen: Seen, passed: bool) -> Told:
    path = seen.exchange.path.decode("latin-1")
    why = "not one of the gateway's own paths" if passed else "answered here, without a token"
    return Told(path, why, [] if passed else _settings(seen, "gateway", "edge"))


def _in_flight(seen: Seen, passed: bool) -> Told:
    most = seen.parts.most_flying
    # One that has been answered is under way no more.
    saw = f"{seen.parts.flying.count - bool(seen.head)} requests under way"
    why = f"{'fewer than' if passed else 'not fewer than'} {most}"
    return Told(saw, why, _settings(seen, "gateway", "max_requests_in_flight"))


def _authenticated(seen: Seen, passed: bool) -> Told:
    terms = seen.exchange.terms or seen.parts.terms
    settings = _deciding(seen, "jwt", "algorithms", "secret", "secret_file", "public_key_file")
    if terms.public:
        return Told("nothing", "the route is public",
                    [seen.settings.origins.route(seen.route, "public")])  # fmt: skip
    found = words(seen, passed)
    if found is not None:
        return Told(*found)
    raw = bearer(seen.face.authorization)
    if isinstance(raw, Refused):
        count = len(seen.face.authorization)
        code = seen.code("Authenticated")
        if code not in ("no_token", "authorization_repeated"):
            return Told("no bearer token", f"{code} {seen.said('Authenticated')}".strip(), [])
        saw = "no Authorization" if not count else f"{count} Authorization fields"
        why = "there is no bearer token" if count < 2 else "there may be only one"
        return Told(saw, why, [])
    return _token(seen, passed, raw, settings)


def _token(seen: Seen, passed: bool, raw: bytes, settings: list[Origin]) -> Told:
    saw, issuer, asked = shown(raw), voucher(raw, seen.settings), opaque(raw, seen.settings)
    if issuer is not None:
        settings = seen.settings.origins.section(f"issuer {issuer.name}")
    elif asked:
        settings = _settings(seen, "introspection", "url")
    if seen.exchange.identity is not None:
        who = seen.exchange.identity
        why = "the server that is asked about it says it is good" if asked else ""
        why = f"{why or 'its signature is good'}; user {who.user}, role {who.role}"
        if who.expires != float("inf"):
            why += f", until {moment(who.expires)}"
        if not passed:
            why += f"; its address has sent too many refused tokens: {seen.said('Authenticated')}"
        return Told(saw, why, settings)
    now = seen.exchange.began
    code = seen.code("Authenticated")
    if code == "limit_refused":
        why = f"its address has sent too many refused tokens: {seen.said('Authenticated')}"
        return Told(saw, why, _settings(seen, "ratelimit", "refused"))
    here = next((each for each in seen.settings.routes if each.prefix == seen.route), None)
    whose = issuer.name if issuer is not None else ASKED if asked else LOCAL
    if code == "token" and here is not None and here.issuers and whose not in here.issuers:
        origin = seen.settings.origins.route(seen.route, "issuers")
        return Told(saw, "the route takes tokens of others alone", [origin])
    if issuer is not None and code in ("signature", "token"):
        return Told(saw, why_not_issuers(raw, issuer, code == "token"), settings)
    if code == "signature":
        return Told(saw, why_unsigned(raw, seen.settings.jwt.algorithms), settings)
    if code == "expired":
        return Told(saw, f"it has expired; it is {moment(now)} now",
                    _settings(seen, "jwt", "leeway"))  # fmt: skip
    if code == "revoked":
        return Told(saw, f"it has been revoked: {seen.said('Authenticated')}", [])
    if asked:
        return Told(saw, why_opaque(code), settings)
    if code != "token":
        return Told(saw, f"{code} {seen.said('Authenticated')}".strip(), settings)
    rules = here.jwt if here is not None else seen.settings.jwt
    why = why_invalid(raw, rules, now, seen.parts.proofs is not None)
    names = ("issuer", "audience", "require_exp", "role_claim")
    return Told(saw, why, _deciding(seen, "jwt", *names))


def _limited(seen: Seen, passed: bool) -> Told:
    terms = seen.exchange.terms or seen.parts.terms
    settings = _limit_settings(seen)
    asked = getattr(seen.parts.buckets, "asked", None)
    if asked is None:
        if limit_key(seen.exchange, terms.rate_key) is None:
            return Told(f"no claim {terms.rate_key}", "the counter's key is made of that claim",
                        _settings(seen, "ratelimit", "key"))  # fmt: skip
        return Told("nothing", "nobody asked", settings)
    _rule, key, cost = asked
    saw = f"{key}, which counts as {cost}" if cost != 1 else key
    count = seen.count
    if count is None:
        return Told(saw, "the store of counters can't be asked",
                    _settings(seen, "ratelimit", "store", "on_store_failure"))  # fmt: skip
    name = count.window.name
    note = getattr(count, "note", "")
    if note:
        settings = _settings(seen, "ratelimit", "on_store_failure")
        return Told(saw, f"the store of counters can't be asked: {note}", settings)
    if count.full:
        return Told(saw, "there is no room for another counter",
                    _settings(seen, "ratelimit", "keys"))  # fmt: skip
    if count.allowed:
        return Told(saw, f"{name}: {count.remaining} more after this one", settings)
    return Told(saw, f"{name} is used up; room again in {count.retry_after} s", settings)


def _limit_settings(seen: Seen) -> list[Origin]:
    """The limit that was asked: a route's, a plan's or the common one."""
    origins = seen.settings.origins
    asked = getattr(seen.parts.buckets, "asked", None)
    owner = asked[0].windows[0].owner if asked is not None else "default"
    names = ("limits", "limit", "window", "algorithm", "burst", "key", "cost")
    if owner == OWNER:
        return _settings(seen, "apikeys", "file")
    if owner in dict(seen.settings.plans):
        return origins.starting(f"plan {owner}", names) + _settings(seen, "ratelimit", "plan_claim")
    found = [each for each in _settings(seen, "ratelimit", *names) if each.line]
    return found or _settings(seen, "ratelimit", "limit", "window")


def _routed(seen: Seen, passed: bool) -> Told:
    path = seen.exchange.path.decode("latin-1")
    if not passed:
        return Told(path, "no route takes it", [])
    return Told(path, f"route {seen.route}", seen.settings.origins.section(f"route {seen.route}"))


#: What a policy is made of.
_POLICY = ("methods", "require.")


def _permitted(seen: Seen, passed: bool) -> Told:
    terms = seen.exchange.terms or seen.parts.terms
    identity = seen.exchange.identity
    saw = seen.face.method.decode()
    if identity is not None:
        scopes = identity.claims.get("scope", identity.claims.get("scp", "none"))
        saw += f", role {identity.role}, scopes {scopes}"
    asked = seen.settings.origins.starting(f"route {seen.route}", _POLICY)
    if terms.policy is None or terms.policy.open:
        return Told(saw, "the route asks for nothing more", [])
    if passed:
        return Told(saw, "all that the route asks for is there", asked)
    if seen.code("Permitted") == "method":
        return Told(saw, "the route does not allow this method",
                    [each for each in asked if each.option == "methods"])  # fmt: skip
    detail = seen.said("Permitted")
    told = [each for each in asked if detail and each.option.startswith(detail)]
    return Told(saw, f"{detail or 'a requirement'} is not met", told or asked)


def _sized(seen: Seen, passed: bool) -> Told:
    body = seen.face.body
    most = (seen.exchange.terms or seen.parts.terms).max_body
    settings = _settings(seen, "body", "max_size")
    if body is None:
        return Told("no body", f"at most {most} bytes", settings)
    saw = f"{body.length} bytes" if body.length >= 0 else "a chunked body"
    return Told(saw, f"{'at most' if passed else 'more than'} {most} bytes", settings)


def _broken(seen: Seen, passed: bool) -> Told:
    terms = seen.exchange.terms
    target = terms.target if terms is not None else None
    settings = _deciding(seen, "breaker", "failures", "reset_after", "statuses")
    if target is None:
        return Told("nothing", "there is nowhere to go", settings)
    state = target.circuit.state(seen.parts.clock())
    return Told(target.name, f"its circuit is {state}", settings)


def _forwarded(seen: Seen, passed: bool) -> Told:
    where = seen.exchange.upstream
    settings = [seen.settings.origins.route(seen.route, "upstream")]
    terms = seen.exchange.terms
    asserts = terms is not None and terms.assertion is not None
    if asserts and seen.exchange.identity is not None:
        own = seen.settings.origins.route(seen.route, "assertion")
        settings.append(own if own.line else seen.settings.origins.of("assertion", "default"))
    return Told(where, "the head below would be sent", settings)


def untold(seen: Seen, passed: bool) -> Told:
    """Of a stage that has no entry below, which a test does not let happen."""
    return Told("the request", f"what it goes by is not told; {seen.reason or 'it passed'}", [])


#: The sections whose C{mode} may let pass what a stage would refuse.
GATES = {
    "IPFiltered": "ip", "Authenticated": "ratelimit", "RateLimited": "ratelimit",
    "Permitted": "require", "SizeLimited": "body", "CircuitBroken": "breaker",
}  # fmt: skip

#: What tells of each stage, by its name in L{gateway.chain}.
EXPLAINED: dict[str, Callable[[Seen, bool], Told]] = {
    "Audited": _audited,
    "PeerNamed": _peer,
    "LookedUp": _looked_up,
    "IPFiltered": _filtered,
    "CORSAnswered": _cors,
    "HealthAnswered": _health,
    "InFlightLimited": _in_flight,
    "Authenticated": _authenticated,
    "RateLimited": _limited,
    "Routed": _routed,
    "Permitted": _permitted,
    "SizeLimited": _sized,
    "CircuitBroken": _broken,
    "Forwarded": _forwarded,
}
