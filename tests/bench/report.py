"""Turns figures into Markdown tables and a marked block of docs/performance.md."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.cases import CASES

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = {"nginx": "nginx", "haproxy": "HAProxy", "gateway": "gateway", "origin": "origin alone"}
#: Nothing; also from-to.
DASH = "\u2013"
LABELS = {case.name: case.label for case in CASES}


def middle(slices: list[dict[str, float]], key: str) -> float:
    """The median of the rounds."""
    return median(each[key] for each in slices)


def ratios(case: dict[str, Any], peer: str, to: str, key: str = "cpu") -> list[float]:
    """Of two peers in each round."""
    slices = case["slices"]
    return [one[key] / other[key] for one, other in zip(slices.get(peer, ()), slices.get(to, ()), strict=False)]


def span(found: list[float]) -> str:
    """The median, with the least and the greatest."""
    return f"{median(found):.2f} ({min(found):.2f}{DASH}{max(found):.2f})"


def _ratio(case: dict[str, Any], peer: str, to: str) -> str:
    found = ratios(case, peer, to)
    return span(found) if found else DASH


def _micros(case: dict[str, Any], peer: str) -> str:
    slices = case["slices"].get(peer)
    if not slices:
        return DASH
    value = middle(slices, "cpu")
    return f"{value / 1000:.2f} ms" if value >= 1000 else f"{value:.1f} µs"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)


def costs(results: dict[str, Any]) -> str:
    """CPU a request and its ratios."""
    rows = []
    for name, case in results["cases"].items():
        if "slices" not in case:
            rows.append([LABELS[name], *[DASH] * 5])
            continue
        rows.append([
            LABELS[name], *(_micros(case, peer) for peer in ("nginx", "haproxy", "gateway")),
            _ratio(case, "gateway", "nginx"), _ratio(case, "gateway", "haproxy"),
        ])  # fmt: skip
    return table(["case", "nginx, none of the job", "HAProxy", "gateway", "gateway ÷ nginx", "gateway ÷ HAProxy"], rows)


def rates(results: dict[str, Any]) -> str:
    """Requests a second, memory, and whether the audit log was complete."""
    rows = []
    for name, case in results["cases"].items():
        if "slices" not in case:
            continue
        row = [LABELS[name]]
        for peer in ("nginx", "haproxy", "gateway"):
            slices = case["slices"].get(peer)
            row.append(f"{middle(slices, 'rate'):,.0f}" if slices else DASH)
        ours = case["slices"].get("gateway")
        row.append(f"{middle(ours, 'rss'):.0f} / {middle(ours, 'pss'):.0f}" if ours else DASH)
        row.append(audit_line(case["audit"]) if "audit" in case else DASH)
        rows.append(row)
    return table(["requests/s", "nginx", "HAProxy", "gateway", "its RSS / PSS, MiB", "its audit log"], rows)


def audit_line(audit: dict[str, Any]) -> str:
    """Rows beside requests."""
    if audit["complete"]:
        cut = audit["rows"] - audit["answered"]
        return f"{audit['rows']:,} rows = {audit['answered']:,} answers" + (f" + {cut} cut off" if cut else "")
    return f"**{audit['rows']:,} rows, {audit['lost']:,} lost, of {audit['answered']:,} to {audit['sent']:,} requests**"


def savings(results: dict[str, Any]) -> list[str]:
    """What a refusal costs less than a forwarded request, both set against nginx in their own rounds."""
    lines, cases = [], results["cases"]
    forwarded = ratios(cases.get("get", {"slices": {}}), "gateway", "nginx")
    for name in ("401", "429"):
        refused = ratios(cases.get(name, {}), "gateway", "nginx") if "slices" in cases.get(name, {}) else []
        if forwarded and refused:
            lines.append(f"A {name} costs {1 - median(refused) / median(forwarded):.0%} less than a forwarded request.")
    return lines


def latency(results: dict[str, Any]) -> str:
    """p50 and p99 at a fixed rate."""
    found = results["latency"]
    base, rows = found["slices"]["origin"], []
    for name, slices in found["slices"].items():
        p50, p99 = (middle(slices, key) / 1000 for key in ("p50", "p99"))
        more = [DASH, DASH] if name == "origin" else [f"{p50 - middle(base, 'p50') / 1000:.3f}", f"{p99 - middle(base, 'p99') / 1000:.3f}"]
        rows.append([NAMES[name], f"{p50:.3f}", f"{p99:.3f}", *more])
    text = table([f"at {found['offered']:,.0f} requests/s", "p50, ms", "p99, ms", "p50 over the origin's", "p99 over it"], rows)
    return text + (f"\n\nThe audit log: {audit_line(found['audit'])}." if "audit" in found else "")


def notes(results: dict[str, Any]) -> str:
    """How it was measured, and what was not."""
    lines = [results["machine"] + "."]
    lines.append(
        f"{results['rounds']} interleaved rounds of {results['seconds']:g} s, 64 connections unless it is said; medians, and ratios with their least and greatest. "
        "In the refused cases nginx forwards."
    )
    lines += savings(results)
    others = [each["others"] for case in results["cases"].values() for rows in case.get("slices", {}).values() for each in rows]
    if others:
        lines.append(f"Other processes and interrupts took {median(others):.0%} of the peer's processor, at most {max(others):.0%}.")
    lines += [f"Not measured: {LABELS.get(name, NAMES.get(name, name))}: {why}." for name, why in results["skipped"].items()]
    return "\n".join("- " + line for line in lines)



def markdown(results: dict[str, Any]) -> str:
    """All of it."""
    parts = ["CPU a request:", costs(results), "Throughput, memory and audit:", rates(results)]
    if "latency" in results:
        parts += ["Latency under half load:", latency(results)]
    return "\n\n".join([*parts, notes(results)])


def rewrite(block: str, text: str) -> None:
    """
    Put a text between the marks of a block of docs/performance.md.

    @raise LookupError: there is no such block.
    """
    path = DOCS / "performance.md"
    marks = f"<!-- bench:{block} -->\n", f"<!-- /bench:{block} -->"
    old = path.read_text()
    new, found = re.subn(
        re.escape(marks[0]) + ".*?" + re.escape(marks[1]), lambda _: f"{marks[0]}\n{text}\n\n{marks[1]}", old, flags=re.DOTALL
    )
    if found != 1:
        raise LookupError(f"{path} has no block {block}")
    path.write_text(new)
