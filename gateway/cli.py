# -*- test-case-name: tests.test_cli -*-
"""
The C{gateway} command: C{check}, C{explain}, C{revoke}, C{token}, C{key}, C{keys} and C{audit}.

Each tool reads the same INI file as the daemon and starts nothing. Exit status: 0 done,
1 something is wrong with what it was given.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from gateway import keytool, whose
from gateway.admission.takes import BEARER_ONLY
from gateway.buildproofs import takes_of
from gateway.settings import (
    RateLimitSettings,
    RouteSettings,
    Settings,
    SettingsError,
    read,
)
from gateway.settings.limits import told
from gateway.settings.require import Requirements, methods_of

_DEFAULT = "gateway.ini"


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the console script."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    from gateway.explain import command as explain
    from gateway.issuers import command as keys
    from gateway.revocation import command as revoke

    parser = argparse.ArgumentParser(prog="gateway", description="Tools of the API gateway.")
    tools = parser.add_subparsers(required=True, metavar="TOOL")
    check = tools.add_parser("check", help="check an INI file, print every route's policy")
    check.add_argument("file", nargs="?", default=_DEFAULT)
    check.add_argument("--config", dest="file", default=argparse.SUPPRESS)
    check.set_defaults(run=_check)
    token = tools.add_parser("token", help="make a token for trying things out")
    token.add_argument("--config", default=_DEFAULT)
    token.add_argument("--sub", required=True, help="the user")
    token.add_argument("--role", help="the role claim; default: none")
    token.add_argument("--scope", help="the scope claim, space-separated")
    token.add_argument(
        "--claim", action="append", default=[], metavar="NAME=JSON", help="any other claim"
    )
    token.add_argument("--lifetime", type=float, default=3600.0, help="seconds; default: 3600")
    token.add_argument("--key", help="private key (PEM) where the INI names a public one")
    token.set_defaults(run=_token)
    keytool.parser(tools, _DEFAULT)
    explain.add_parser(tools, _DEFAULT)
    revoke.add_parser(tools, _DEFAULT)
    keys.add_parser(tools, _DEFAULT)
    audit = tools.add_parser("audit", help="show the last rows of the audit log")
    audit.add_argument("--config", default=_DEFAULT)
    audit.add_argument("--database", help="the database itself, instead of an INI file's")
    audit.add_argument("-n", "--rows", type=int, default=20)
    audit.add_argument("--user")
    audit.add_argument("--status", type=int)
    audit.add_argument("--json", action="store_true", help="one JSON object a line")
    audit.set_defaults(run=_audit)
    return parser


def _check(options: argparse.Namespace) -> int:
    settings = read(options.file, os.environ)
    print(effective(settings))
    store = settings.ratelimit.store
    print(f"counters in {'memory' if isinstance(store, str) else store}")
    for warning in settings.warnings:
        print(f"warning: {warning}")
    print(f"{options.file}: {len(settings.routes)} routes, no problem found")
    return 0


def effective(settings: Settings) -> str:
    """The effective policy of every route, as text to be read aloud."""
    return "\n".join(line for route in settings.routes for line in _route(route, settings))


def _route(route: RouteSettings, settings: Settings) -> list[str]:
    lines = [
        f"{route.prefix} -> {route.upstream}",
        f"  methods   {', '.join(route.methods) or 'all'}",
        *_requires(route, settings),
        *[f"  header    {field}: {claim}" for field, claim in route.headers.claims],
        *_asserted(route),
        *_limits(route, settings),
        f"  addresses allow {', '.join(route.ip.allow) or 'everyone'};"
        f" deny {', '.join(route.ip.deny) or 'nobody'}",
        f"  body      at most {route.body.max_size} bytes",
        f"  breaker   opens after {route.breaker.failures} failures"
        f" for {route.breaker.reset_after:g} s",
    ]
    if route.shadowed:
        lines.append(f"  SHADOW    {', '.join(route.shadowed)}: what they would refuse passes")
    return lines + [f"  LOOSENED  {sentence}" for sentence in route.loosened] + [""]


def _asserted(route: RouteSettings) -> list[str]:
    if route.assertion == "no" or route.public:
        return []
    what = "who calls" if route.assertion == "user" else "who calls with which request"
    return [f"  asserts   {what}, to {route.assertion_audience or route.upstream}"]


def _credentials(route: RouteSettings, settings: Settings) -> str:
    """Who comes in by what, and what must come with it."""
    takes = takes_of(settings, route) or BEARER_ONLY
    proofs = {"accept": ", with a DPoP proof if it is bound", "require": " with a DPoP proof"}
    ways = []
    if takes.tokens:
        proof = proofs.get(takes.dpop, "")
        ways += [token + proof for token in whose.tokens(route, settings)]
    ways += [f"an API key in {settings.apikeys.header}"] if takes.keys else []
    ways += [f"a certificate ({settings.mtls.user})"] if takes.certificates else []
    beside = "; a client certificate" if takes.mtls == "require" else ""
    return " or ".join(ways or ["nothing that is configured"]) + beside


def _identity_asked(route: RouteSettings, settings: Settings) -> list[str]:
    asked = [_credentials(route, settings)]
    asked += [] if whose.others(settings) else whose.local_asks(route)
    return asked + (["exp"] if route.jwt.require_exp else [])


def _requires(route: RouteSettings, settings: Settings) -> list[str]:
    """What is asked of all, then what is asked besides for some methods."""
    made = route.requirements
    asked = ["nothing: public"] if route.public else _identity_asked(route, settings)
    asked += _claims_asked(made, "")
    asked += [f"an address in {', '.join(made.ip)}"] if made.ip else []
    asked += [f"the time {', or '.join(span.text for span in made.time)}"] if made.time else []
    asked += [f"that {made.expr}"] if made.expr else []
    lines = [f"  requires  {'; '.join(asked)}"]
    special = list(methods_of(made))
    for method in special:
        lines.append(f"  {method:<9} also {'; '.join(_claims_asked(made, method))}")
        if method == "GET" and not route.methods:
            lines.append("  HEAD      as GET")
    others = [method for method in route.methods if method not in special]
    if special and (others or not route.methods):
        lines.append(f"  others    nothing more ({', '.join(others) or 'any other method'})")
    return lines


def _claims_asked(made: Requirements, method: str) -> list[str]:
    asked = [f"role one of {', '.join(roles)}" for name, roles in made.role if name == method]
    asked += [f"scope {' and '.join(scopes)}" for name, scopes in made.scope if name == method]
    return asked + [
        f"{claim} one of {', '.join(values)}"
        for name, claim, values in made.claims
        if name == method
    ]


def _limits(route: RouteSettings, settings: Settings) -> list[str]:
    rate = route.ratelimit
    counter = "a counter of its own" if route.own_counter else "the common counter"
    lines = [
        f"  limit     {told(rate.windows)} for each {rate.key} ({_algorithm(rate)}, {counter})",
    ]
    if not route.own_counter:
        lines += [
            f"  plan      {name}: {told(plan.windows)} ({_algorithm(plan)}),"
            f" where {rate.plan_claim} is {name}"
            for name, plan in settings.plans
        ]
    if rate.cost != 1 or rate.costs:
        costs = [f"{method} as {cost}" for method, cost in rate.costs]
        lines.append("  cost      " + ", ".join([f"a request counts as {rate.cost}", *costs]))
    if rate.refused:
        lines.append(f"  refused   {told(rate.refused)}: tokens of one address")
    return lines


def _algorithm(rate: RateLimitSettings) -> str:
    return f"gcra, burst {rate.burst}" if rate.algorithm == "gcra" else rate.algorithm


def _token(options: argparse.Namespace) -> int:
    from gateway.mint import mint  # PyJWT is not needed by the other tools

    settings = read(options.config, os.environ)
    claims: dict[str, Any] = {"sub": options.sub}
    if options.role is not None:
        claims[settings.jwt.role_claim] = options.role
    if options.scope is not None:
        claims["scope"] = options.scope
    if settings.jwt.issuer:
        claims["iss"] = settings.jwt.issuer
    if settings.jwt.audience:
        claims["aud"] = settings.jwt.audience
    for text in options.claim:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--claim {text}: expected NAME=JSON")
        try:
            claims[name] = json.loads(value)
        except json.JSONDecodeError:
            claims[name] = value
    key = Path(options.key).read_bytes() if options.key else None
    print(mint(settings.jwt, claims, options.lifetime, time.time(), key))
    return 0


def _audit(options: argparse.Namespace) -> int:
    from gateway.audit.query import last_rows, table

    database = options.database or read(options.config, os.environ).audit.database
    if not Path(database).exists():
        raise ValueError(f"there is no audit database at {database}")
    rows = last_rows(database, options.rows, user=options.user, status=options.status)
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
