# -*- test-case-name: tests.test_keytool -*-
"""
C{gateway key}: makes API keys, shows them once, lists and revokes them. The file holds their
digests only; every worker has read it within a second.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from typing import Any

from gateway.admission.apikeys import (
    NAME,
    Key,
    digest_of,
    moment,
    new_key,
    read_limits,
    read_moment,
    spelled_limits,
)
from gateway.admission.identity import field_text
from gateway.admission.key_limits import Windows
from gateway.keyfile import add, listed, revoke
from gateway.settings import Settings, read

_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parser(tools: Any, default: str) -> None:
    """Add C{key} to the command's tools."""
    key = tools.add_parser("key", help="make, list and revoke API keys")
    actions = key.add_subparsers(required=True, metavar="ACTION")
    made = actions.add_parser("add", help="make a key; it is printed once, and never again")
    made.add_argument("name", help="what the key is called, in the file and in lists")
    made.add_argument("--user", required=True, help="who calls with it: X-User-ID")
    made.add_argument("--role", default="", help="default: [jwt] default_role")
    made.add_argument("--scope", default="", help="scopes, space-separated")
    made.add_argument("--expires", default="", help="30d, or 2027-01-31; default: never")
    limit = made.add_mutually_exclusive_group()
    limit.add_argument("--plan", default="", help="a [plan NAME] of the configuration")
    limit.add_argument("--limit", default="", help="of its own: 100/60s,5000/1d")
    made.set_defaults(run=_add)
    shown = actions.add_parser("list", help="the keys on file, without the keys themselves")
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    shown.set_defaults(run=_list)
    gone = actions.add_parser("revoke", help="a key is refused from now on")
    gone.add_argument("name")
    gone.set_defaults(run=_revoke)
    for action in (made, shown, gone):
        action.add_argument("--config", default=default)
        action.add_argument("--file", help="the file of keys itself, instead of an INI file's")


def _file(options: argparse.Namespace) -> tuple[str, Settings | None]:
    """The file of keys, and the configuration, where that was read."""
    if options.file:
        return options.file, None
    settings = read(options.config, os.environ)
    if not settings.apikeys.file:
        raise ValueError(f"{options.config} has no [apikeys] file")
    return settings.apikeys.file, settings


def _add(options: argparse.Namespace) -> int:
    path, settings = _file(options)
    plans = [name for name, _ in settings.plans] if settings is not None else [options.plan]
    if options.plan and options.plan not in plans:
        raise ValueError(f"no [plan {options.plan}]; there are {', '.join(plans) or 'none'}")
    if NAME.fullmatch(options.name) is None:
        raise ValueError("expected a name of at most 64 letters, digits, dots, dashes")
    for what in ("user", "role"):
        value = getattr(options, what)
        if value and field_text(value) is None:
            raise ValueError(f"--{what}: no name that may be a header's value")
    raw = new_key()
    scopes = tuple(options.scope.replace(",", " ").split())
    expires = _expires(options.expires, time.time())
    digest = digest_of(raw.encode())
    limits = _limits(options.limit, settings) if options.limit else ()
    user, role, plan = options.user, options.role, options.plan
    made = float(int(time.time()))
    add(path, Key(options.name, digest, user, role, scopes, expires, plan, limits, made))
    print(raw)
    return 0


def _limits(text: str, settings: Settings | None) -> Windows:
    try:
        found = read_limits(text)
    except ValueError as error:
        raise ValueError(f"--limit {text}: {error}") from None
    cost = _dearest(settings) if settings is not None else 1
    if settings is not None and settings.ratelimit.algorithm == "gcra":
        return found
    least = min(limit for limit, _ in found)
    if cost > least:
        raise ValueError(f"--limit {text}: a request that counts as {cost} would never pass")
    return found


def _dearest(settings: Settings) -> int:
    """What the dearest request costs that counts in the common limit."""
    every = [settings.ratelimit, *(r.ratelimit for r in settings.routes if not r.own_counter)]
    return max(max([each.cost, *(cost for _, cost in each.costs)]) for each in every)


def _expires(text: str, now: float) -> float:
    if not text:
        return float("inf")
    match = _LIFETIME.fullmatch(text)
    found = now + int(match[1]) * _SECONDS[match[2]] if match is not None else read_moment(text)
    if found <= now:
        raise ValueError(f"--expires {text}: that has passed")
    return found


def _list(options: argparse.Namespace) -> int:
    path, _ = _file(options)
    now = time.time()
    for key in listed(path):
        expires = moment(key.expires) if key.expires != float("inf") else ""
        told: dict[str, Any] = {
            "name": key.name, "user": key.user, "role": key.role, "scopes": list(key.scopes),
            "expires": expires, "expired": key.expires <= now, "plan": key.plan,
            "limits": spelled_limits(key.limits),
            "created": moment(key.created) if key.created is not None else "",
            "sha256": key.digest.hex(),
        }  # fmt: skip
        if options.json:
            print(json.dumps(told))
        else:
            end = f"until {expires}" if expires else "for ever"
            end += " (expired)" if told["expired"] else ""
            more = [f"role {key.role}"] if key.role else []
            more += [f"scopes {' '.join(key.scopes)}"] if key.scopes else []
            more += [f"plan {key.plan}"] if key.plan else []
            more += [f"limits {told['limits']}"] if key.limits else []
            more += [f"made {told['created']}"] if told["created"] else []
            print("  ".join([key.name, f"user {key.user}", *more, end]))
    return 0


def _revoke(options: argparse.Namespace) -> int:
    path, _ = _file(options)
    revoke(path, options.name)
    return 0
