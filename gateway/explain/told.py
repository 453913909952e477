# -*- test-case-name: tests.explain.test_told -*-
"""
What was found out about a request, as text for people and as JSON for programs; never
shows a token, a cookie or a key.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from gateway.chain import STAGES
from gateway.explain.run import Seen
from gateway.explain.stages import EXPLAINED, GATES, untold
from gateway.settings.origins import Origin

#: Fields whose values nobody should read over a shoulder.
_MASKED = re.compile(
    rb"(?im)^((?:cookie|set-cookie|authorization|proxy-authorization|dpop|x-gateway-assertion|"
    rb"[\w.!#$%&'*+^`|~-]*(?:secret|token|password|key)[\w.!#$%&'*+^`|~-]*): )[^\r\n]*"
)
_VERDICTS = {True: "passed", False: "refused"}


def masked(head: bytes) -> str:
    """A head for people."""
    return _MASKED.sub(rb"\1(hidden)", head).decode("latin-1").replace("\r\n", "\n").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Step:
    """
    One stage.

    @ivar verdict: C{passed}, C{refused}, C{answered}, C{forwarded}; C{not reached}; C{off}
        where the configuration has no use for it; or passed in shadow mode.
    """

    number: int
    stage: str
    verdict: str
    saw: str = ""
    why: str = ""
    settings: tuple[Origin, ...] = ()


def steps(seen: Seen) -> list[Step]:
    """All stages in their order, with what became of the request there."""
    first = Step(1, "HTTP parsing", "passed", "the head", "one unambiguous request")
    if seen.face is None:
        first = Step(1, "HTTP parsing", "refused", "the head", seen.unread)
    found = [first]
    for number, name in [*((stage.number, stage.name) for stage in STAGES), (11, "Forwarded")]:
        if name in seen.absent:
            found.append(Step(number, name, "off"))
        elif name not in seen.way:
            found.append(Step(number, name, "not reached"))
        else:
            passed = seen.way[-1] != name or bool(seen.head)
            shadowed = passed and seen.shadowed(name)
            told = EXPLAINED.get(name, untold)(seen, passed and not shadowed)
            verdict = _VERDICTS[passed] if passed or not seen.allowed else "answered"
            if shadowed:
                mode = seen.settings.origins.of(GATES[name], "mode", seen.route)
                told = told._replace(settings=[*told.settings, mode])
                verdict = "passed in shadow mode; would be refused"
            if name == "Forwarded" and passed:
                verdict = "forwarded"
            found.append(Step(number, name, verdict, told.saw, told.why, tuple(told.settings)))
    return found


def as_dict(seen: Seen, notes: list[str]) -> dict[str, Any]:
    """For programs."""
    line = seen.asked.raw.partition(b"\r\n")[0].decode("latin-1")
    answer = seen.answer.partition(b"\r\n\r\n")
    return {
        "request": line,
        "peer": seen.asked.peer or "unix",
        "verdict": verdict(seen),
        "status": seen.status or None,
        "reason": seen.reason,
        "route": seen.route,
        "stages": [
            {**asdict(step), "settings": [_setting(each) for each in step.settings]}
            for step in steps(seen)
        ],
        "upstream": seen.exchange.upstream or None,
        "forwarded": masked(seen.head).split("\n") if seen.head else None,
        "answer": {"head": masked(answer[0]).split("\n"), "body": answer[2].decode("latin-1")}
        if seen.answer
        else None,
        "notes": notes,
    }


def _setting(origin: Origin) -> dict[str, Any]:
    return {**asdict(origin), "line": origin.line or None, "default": not origin.line}


def verdict(seen: Seen) -> str:
    """C{allowed}, C{answered} or C{refused}."""
    if seen.head:
        return "allowed"
    return "answered" if seen.allowed else "refused"


def as_text(seen: Seen, notes: list[str]) -> str:
    """For people."""
    lines = [seen.asked.raw.partition(b"\r\n")[0].decode("latin-1"), ""]
    for step in steps(seen):
        lines.append(f"{step.number:>2}  {step.stage:<15} {step.verdict}")
        if step.saw:
            lines.append(f"      saw      {step.saw}")
        if step.why:
            lines.append(f"      because  {step.why}")
        lines += [f"      setting  {origin}" for origin in step.settings]
    lines.append("")
    if seen.head:
        lines.append(f"ALLOWED: to {seen.exchange.upstream} would go")
        lines += ["  | " + line for line in masked(seen.head).split("\n")]
    else:
        says = f"{seen.status} ({seen.reason})" if seen.reason else str(seen.status)
        lines.append(f"{verdict(seen).upper()}: {says}; the client would get")
        head, _, body = seen.answer.partition(b"\r\n\r\n")
        lines += ["  | " + line for line in masked(head).split("\n")]
        lines += ["  | ", "  | " + body.decode("latin-1")] if body else []
    return "\n".join(lines + [f"Note: {note}" for note in notes])
