# -*- test-case-name: tests.explain.test_command -*-
"""
C{gateway explain}: lets a request be described on the command line; refuses, with status 2,
what describes none, or a configuration that is not right.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.explain.run import Asked, Seen
from gateway.explain.told import as_dict, as_text
from gateway.revocation.times import parse_moment
from gateway.settings import Settings, SettingsError, read

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

ALLOWED, REFUSED, USAGE = 0, 1, 2


def add_parser(tools: Any, default: str) -> None:
    """C{explain} among the tools."""
    parser = tools.add_parser(
        "explain",
        help="say what would become of a request, and why, without sending it",
        description="Says of every stage what it would see, decide and why, and what would be "
        "forwarded. Nothing is sent or counted. Exit status: 0 allowed, 1 refused, 2 the "
        "question or the configuration is not right.",
    )
    parser.add_argument("--config", default=default)
    parser.add_argument("method", metavar="METHOD", help="GET, POST, ...")
    parser.add_argument("url", metavar="URL", help="https://host/path?query, or a path")
    parser.add_argument("--token", help="the bearer token; - reads it from standard input")
    parser.add_argument("--ip", default="127.0.0.1", help="the peer's address, or unix")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="any number of them"
    )
    parser.add_argument("--body-size", type=int, metavar="BYTES", help="of the body; default: none")
    parser.add_argument("--at", metavar="TIME", help="unix seconds or 2026-01-31T12:00:00Z")
    parser.add_argument("--json", action="store_true", help="the same for programs")
    parser.set_defaults(run=explain)


def explain(options: argparse.Namespace) -> int:
    """Explain one request; the exit status."""
    try:
        asked = asked_of(options)
        settings = read(options.config, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return USAGE
    except ValueError as error:
        print(f"gateway explain: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    seen, notes = look(settings, asked)
    if options.json:
        print(json.dumps(as_dict(seen, notes), indent=2))  # noqa: T201
    else:
        print(as_text(seen, notes))  # noqa: T201
    return ALLOWED if seen.allowed else REFUSED


def look(settings: Settings, asked: Asked) -> tuple[Seen, list[str]]:
    """Ask a gateway made of these settings, which never serves."""
    # Imported late: the other tools need no Twisted.
    from gateway.explain.asking import ask  # noqa: PLC0415

    own = settings.assertion
    if not Path(own.generated).exists():
        # A key is made when the gateway starts, not by who asks about it.
        settings = replace(settings, assertion=replace(own, generated=""))
    return ask(settings, asked)


def asked_of(options: argparse.Namespace) -> Asked:
    """
    The request that the options describe.

    @raise ValueError: when they describe none.
    """
    if _METHOD.fullmatch(options.method) is None:
        raise ValueError(f"{options.method!r} is no method")
    host, target = _place(options.url)
    lines = [f"{options.method} {target} HTTP/1.1"]
    for header in options.header:
        name, colon, value = header.partition(":")
        if not colon or not name or "\r" in header or "\n" in header:
            raise ValueError(f"--header {name}: expected 'NAME: VALUE'")
        if name.strip().lower() == "host":
            host = value.strip()
        else:
            lines.append(f"{name}:{value}")
    lines.insert(1, f"Host: {host}")
    token = options.token
    if token == "-":  # noqa: S105 - the word for standard input
        token = sys.stdin.readline()
    if token is not None:
        if not token.strip().isascii() or any(c.isspace() for c in token.strip()):
            raise ValueError("--token: a token has neither blanks nor letters beyond ASCII")
        lines.append(f"Authorization: Bearer {token.strip()}")
    if options.body_size is not None:
        if options.body_size < 0:
            raise ValueError("--body-size: expected bytes")
        lines.append(f"Content-Length: {options.body_size}")
    try:
        raw = "\r\n".join([*lines, "", ""]).encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("the URL and the headers: only what can be sent as it is") from None
    at = parse_moment(options.at) if options.at is not None else None
    return Asked(raw, _peer(options.ip), at)


def _place(url: str) -> tuple[str, str]:
    """Host and target; the target is sent as it was given."""
    if not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} is no URL")
    if url.startswith("/") or url == "*":
        return "localhost", url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise ValueError(f"{url!r} is no URL; expected https://host/path, or /path")
    rest = url[len(parts.scheme) + 3 + len(parts.netloc) :].partition("#")[0]
    return parts.netloc, rest if rest.startswith("/") else "/" + rest


def _peer(text: str) -> str | None:
    if text == "unix":
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"--ip {text}: expected an address, or unix") from None
