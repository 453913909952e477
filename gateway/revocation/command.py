# -*- test-case-name: tests.revocation.test_command -*-
"""
C{gateway revoke}: lets an operator say what is no longer good, take it back, and see what
holds. It writes the machine's file; the gateways that watch it do the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

from gateway.revocation.entries import (
    JTI,
    KEY,
    KID,
    MAX_REASON,
    MAX_VALUE,
    USER,
    Entry,
    Revocations,
    is_name,
)
from gateway.revocation.journal import Journal
from gateway.revocation.times import parse_moment
from gateway.settings import read


def add_parser(tools: Any, default: str) -> None:
    """C{revoke} among the tools."""
    parser = tools.add_parser(
        "revoke",
        help="make tokens, API keys and certificates invalid before their time",
        description="In force within a second in every process on this machine, and on all "
        "machines that share a store with it. Open responses of the user are cut.",
    )
    parser.add_argument("--config", default=default)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--jti", help="the token with this identifier")
    what.add_argument("--token", help="the token itself, which must have a jti; - reads it")
    what.add_argument(
        "--user", help="all of this user: tokens issued, API keys made, certificates valid from "
        "before now",
    )
    what.add_argument("--key", help="the API key of this name that was made before now")
    what.add_argument("--kid", help="all tokens whose header names this key")
    what.add_argument("--list", action="store_true", help="show what is revoked")
    parser.add_argument("--before", metavar="TIME", help="of a user or a key: issued before then")
    parser.add_argument("--until", metavar="TIME", help="forget it then; default: never")
    parser.add_argument("--reason", default="", help="for the audit")
    parser.add_argument("--undo", action="store_true", help="it is good again")
    parser.add_argument("--json", action="store_true", help="with --list: one object a line")
    parser.set_defaults(run=revoke)


def revoke(options: argparse.Namespace) -> int:
    """Do it; the exit status."""
    settings = read(options.config, os.environ)
    journal = Journal(settings.gateway.revocations)
    now = time.time()
    if options.list:
        return _list(journal, now, options.json)
    if options.before is not None and options.user is None and options.key is None:
        raise ValueError("--before says which tokens of a --user, or which --key")
    entry = _entry(options, now)
    held = Revocations()
    held.merge(journal.load(), now)
    known = next((each for each in held if each.key == entry.key and not each.undone), None)
    if entry.undone and known is None:
        raise ValueError(f"{entry.kind} {entry.value} is not revoked")
    if known is not None and entry.at <= known.at:
        # A clock that was set back must not make a later word an earlier one.
        entry = replace(entry, at=known.at + 0.001)
    if not journal.add([entry], now):
        print(f"gateway revoke: {entry.kind} {entry.value}: its time is over already")  # noqa: T201
        return 0
    print(f"{'no longer revoked' if entry.undone else 'revoked'}: {entry}")  # noqa: T201
    return 0


def _entry(options: argparse.Namespace, now: float) -> Entry:
    until = parse_moment(options.until) if options.until is not None else float("inf")
    before = float("inf")
    if options.token is not None:
        kind, (value, ends) = JTI, _of_token(options.token)
        until = min(until, ends)
    elif options.jti is not None:
        kind, value = JTI, options.jti
    elif options.kid is not None:
        kind, value = KID, options.kid
    else:
        named = options.key is not None
        kind, value = (KEY, options.key) if named else (USER, options.user)
        before = parse_moment(options.before) if options.before is not None else now
    if not is_name(value, MAX_VALUE):
        raise ValueError(f"--{kind}: expected 1 to {MAX_VALUE} printable characters")
    if options.reason and not is_name(options.reason, MAX_REASON):
        raise ValueError(f"--reason: expected at most {MAX_REASON} printable characters")
    return Entry(kind, value, now, before, until, options.reason, options.undo)


def _of_token(text: str) -> tuple[str, float]:
    """A token's identifier, and when it can't be valid any more, an hour of leeway included."""
    import jwt as pyjwt  # noqa: PLC0415 - costs a tenth of a second

    raw = sys.stdin.readline().strip() if text == "-" else text
    try:
        claims = pyjwt.decode(raw, options={"verify_signature": False})
    except pyjwt.PyJWTError:
        raise ValueError("--token: this is no token") from None
    jti, exp = claims.get("jti"), claims.get("exp")
    if not isinstance(jti, str) or not jti:
        raise ValueError("--token: it has no jti; revoke its --user, or its --kid")
    ends = exp + 3600.0 if isinstance(exp, int | float) else float("inf")
    return jti, ends


def _list(journal: Journal, now: float, as_json: bool) -> int:
    held = Revocations()
    held.merge(journal.load(), now)
    for entry in sorted(held, key=lambda each: each.at):
        if not entry.undone:
            print(json.dumps(json.loads(entry.to_json())) if as_json else entry)  # noqa: T201
    return 0
