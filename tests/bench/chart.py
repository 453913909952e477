"""A bar chart of the costs as SVG: ratios to nginx, readable on light and dark pages."""

from __future__ import annotations

from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.report import LABELS, NAMES, ratios

_STYLE = """
  .page { fill: #ffffff } text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 14px } .soft { fill: #57606a }
  .gateway { fill: #0969da } .haproxy { fill: #8c959f } .line { stroke: #cf222e; stroke-dasharray: 4 3 }
  .whisker { stroke: #24292f; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #161b22 } text { fill: #e6edf3 } .soft { fill: #9da7b1 } .gateway { fill: #4493f8 } .haproxy { fill: #6e7681 }
    .line { stroke: #ff7b72 } .whisker { stroke: #e6edf3 }
  }
"""
_LEFT, _WIDTH, _BAR, _GAP, _TOP = 290, 460, 13, 12, 62
_PEERS = ("haproxy", "gateway")


def chart(results: dict[str, Any]) -> str:
    """Bars of medians, with the least and greatest round as whiskers; nginx is the line at 1."""
    groups = []
    for name, case in results["cases"].items():
        bars = [(peer, ratios(case, peer, "nginx")) for peer in _PEERS] if "slices" in case else []
        bars = [(peer, found) for peer, found in bars if found]
        if bars:
            groups.append((LABELS[name], bars))
    most = max([1.0, *(max(found) for _, bars in groups for _, found in bars)]) * 1.12
    y, parts = _TOP, []
    for label, bars in groups:
        height = len(bars) * (_BAR + 2)
        parts.append(_text(_LEFT - 10, y + height / 2 + 3, label, end=True))
        for peer, found in bars:
            parts += _bar(y, peer, found, most)
            y += _BAR + 2
        y += _GAP
    one = _LEFT + _WIDTH / most
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 50} {y + 6}" role="img" '
        'aria-label="CPU per request as a multiple of a bare nginx, by case">',
        f"<style>{_STYLE}</style>",
        # A ground of its own: the page's theme need not be the one that the browser names.
        '<rect class="page" width="100%" height="100%" rx="6"/>',
        _text(12, 22, "CPU a request, as a multiple of a bare nginx in the same rounds", kind="title"),
        *_key(),
        f'<line class="line" x1="{one:.1f}" x2="{one:.1f}" y1="{_TOP - 8}" y2="{y - _GAP + 4}"/>',
    ]
    return "\n".join([*frame, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "", end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{f" class={kind!r}" if kind else ""}>{escape(text)}</text>'


def _key() -> list[str]:
    parts, x = [], 12
    for peer in reversed(_PEERS):
        parts.append(f'<rect class="{peer}" x="{x}" y="34" width="{_BAR}" height="{_BAR}" rx="2"/>')
        parts.append(_text(x + _BAR + 6, 45, NAMES[peer], "soft"))
        x += 100
    parts.append(f'<line class="line" x1="{x}" x2="{x + 16}" y1="41" y2="41"/>')
    parts.append(_text(x + 22, 45, "nginx, none of the job", "soft"))
    return parts


def _bar(y: float, peer: str, found: list[float], most: float) -> list[str]:
    scale = _WIDTH / most
    least, value, greatest = (_LEFT + each * scale for each in (min(found), median(found), max(found)))
    centre = y + _BAR / 2
    beside, line = greatest + 6, _LEFT + scale
    if beside - 2 < line < beside + 30:  # not across the line at 1
        beside = line + 6
    return [
        f'<rect class="{peer}" x="{_LEFT}" y="{y}" width="{value - _LEFT:.1f}" height="{_BAR}" rx="2"/>',
        f'<line class="whisker" x1="{least:.1f}" x2="{greatest:.1f}" y1="{centre}" y2="{centre}"/>',
        _text(beside, y + _BAR - 2.5, f"{median(found):.2f}"),
    ]
