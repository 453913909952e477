# -*- test-case-name: tests.system.test_keys -*-
"""
C{gateway keys}: shows the keys of the gateway that runs, as its processes have posted them;
with C{--fetch}, what the issuers publish now. Changes nothing, and shows no secret.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from gateway.issuers.posted import place, read_posted
from gateway.revocation.times import moment
from gateway.settings import Settings, read


def add_parser(tools: Any, default: str) -> None:
    """C{keys} among the tools."""
    parser = tools.add_parser(
        "keys",
        help="show every key set of the gateway that runs: its age, source and next refresh",
        description="Exit status 1 when no gateway runs, or one of its key sets has a problem.",
    )
    parser.add_argument("--config", default=default)
    parser.add_argument("--json", action="store_true", help="one JSON object a key set")
    parser.add_argument(
        "--fetch", action="store_true", help="ask the issuers what they publish now instead"
    )
    parser.set_defaults(run=keys)


def keys(options: argparse.Namespace) -> int:
    """Show them; the exit status."""
    settings = read(options.config, os.environ)
    if options.fetch:
        return _fetch(settings, options.json)
    folder, name = place(settings.gateway)
    found = read_posted(folder, name)
    if not found:
        print(f"no gateway {settings.gateway.name} runs here: none has posted its keys in"  # noqa: T201
              f" {folder.absolute()}; --fetch asks the issuers themselves")  # fmt: skip
        return 1
    found.sort(key=lambda each: (each["worker"], each["started"]))
    now = time.time()
    for line in _as_json(found, now) if options.json else _as_text(found, now):
        print(line)  # noqa: T201
    return 1 if any(_problem(each) for process in found for each in process["sets"]) else 0


def _problem(found: dict[str, Any]) -> bool:
    return found.get("state") in ("kept", "none") or bool(found.get("problem"))


def _as_json(processes: list[dict[str, Any]], now: float) -> Iterator[str]:
    for process in processes:
        for each in process["sets"]:
            whose = {"worker": process["worker"], "pid": process["pid"]}
            yield json.dumps({**whose, **each, "age": _age(each, now), **_newer(each)})


def _as_text(processes: list[dict[str, Any]], now: float) -> Iterator[str]:
    for process in processes:
        worker = f"worker {process['worker']}, " if process["worker"] else ""
        started = moment(process["started"])
        yield f"{worker}process {process['pid']}, since {started}"
        for each in process["sets"]:
            for line in _TOLD[each["set"]](each, now):
                # The issuer's words are a stranger's: no control character reaches a terminal.
                yield "  " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _issuer(found: dict[str, Any], now: float) -> Iterator[str]:
    yield f"{found['name']}  {found['issuer']}"
    yield f"  source    {found['source']}"
    kept = found["kept_until"]
    if found["state"] == "none":
        yield "  NO KEYS   its tokens get 503"
    else:
        late = "" if found["state"] == "fresh" else ", KEPT through an outage"
        until = f", given up at {moment(kept)}" if late else ""
        fetched = f"fetched {moment(found['fetched'])}"
        yield f"  age       {_span(now - found['fetched'])}, {fetched}{late}{until}"
    if found["fetching"]:
        yield "  refresh   under way"
    else:
        left = found["next_refresh"] - now
        due = f"in {_span(left)}" if left > 0 else "due"
        yield f"  refresh   {due}, {moment(found['next_refresh'])}"
    if found["unknown_kids_wait_until"] and found["unknown_kids_wait_until"] > now:
        left = _span(found["unknown_kids_wait_until"] - now)
        yield f"  unknown   kids make no fetch for another {left}"
    if found["last_error"]:
        error, times = found["last_error"], found["failures"]
        again = f", {times} in a row" if times else ", over since"
        yield f"  error     {moment(error['at'])}{again}: {error['says']}"
    yield f"  keys      {len(found['keys'])}"
    yield from key_lines(found)


def key_lines(found: dict[str, Any]) -> Iterator[str]:
    """Each key of a set, and what of it is not used."""
    for key in found["keys"]:
        kid = "(no kid)" if key["kid"] is None else ascii(key["kid"])[1:-1]
        yield f"  key       {kid}: {', '.join(key['algorithms'])}"
    for problem in found["not_used"]:
        yield f"  NOT USED  {problem}"


def _jwt(found: dict[str, Any], now: float) -> Iterator[str]:
    yield f"[jwt]  {found['kind']}, {', '.join(found['algorithms'])}"
    yield f"  source    {found['source'] or 'the configuration'}"
    since = f"generation {found['generation']} since {moment(found['since'])}"
    yield f"  age       {_span(now - found['since'])}, {since}"
    yield from _file(found)


def _apikeys(found: dict[str, Any], now: float) -> Iterator[str]:
    yield "[apikeys]"
    yield f"  source    {found['source']}"
    yield f"  age       {_span(now - found['since'])}, read {moment(found['since'])}"
    yield f"  keys      {found['count']}"
    if found["problem"]:
        yield f"  PROBLEM   {found['problem']}; the keys stay as they were"


def _file(found: dict[str, Any]) -> Iterator[str]:
    newer = _newer(found)
    if "file_changed" in newer:
        changed = moment(newer["file_changed"])
        more = "; what it holds now counts after a reload" if newer["file_newer"] else ""
        yield f"  file      changed {changed}{more}"


_TOLD = {"issuer": _issuer, "jwt": _jwt, "apikeys": _apikeys}


def _age(found: dict[str, Any], now: float) -> float | None:
    """Seconds since it came into force, or was fetched."""
    since = found.get("fetched", found.get("since"))
    return round(max(0.0, now - since), 3) if since is not None else None


def _newer(found: dict[str, Any]) -> dict[str, Any]:
    """Whether the file of a local key has changed since it was taken."""
    if found["set"] != "jwt" or not found["source"]:
        return {}
    try:
        changed = os.stat(found["source"]).st_mtime  # noqa: PTH116
    except OSError:
        return {}
    return {"file_changed": changed, "file_newer": changed > found["since"]}


def _span(seconds: float) -> str:
    """For people: the two largest units."""
    left = max(0, round(seconds))
    said: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size or (unit == "s" and not said):
            said.append(f"{left // size}{unit}")
            left %= size
    return " ".join(said[:2])


def _fetch(settings: Settings, as_json: bool) -> int:
    from twisted.internet.task import react  # noqa: PLC0415 - a reactor is not needed otherwise

    from gateway.issuers.show import look, told  # noqa: PLC0415

    if not settings.issuers:
        print("there is no [issuer NAME]: all tokens are verified with the key of [jwt]")  # noqa: T201
        return 0
    found: list[dict[str, Any]] = []

    def main(reactor: Any) -> Any:
        return look(settings, reactor).addCallback(found.extend)

    try:
        react(main)
    except SystemExit as end:
        if end.code:
            return 1
    for line in map(json.dumps, found) if as_json else told(found):
        print(line)  # noqa: T201
    return 1 if any("problem" in each for each in found) else 0
