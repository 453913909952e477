"""Tests of the benchmark: that it measures what was asked, and says when an audit log is short. Never a duration."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import report
from tests.bench.__main__ import main, write_docs
from tests.bench.cases import CASES, chosen
from tests.bench.chart import chart
from tests.bench.growth import _stored
from tests.bench.load import Count
from tests.bench.measure import audited
from tests.bench.peers import HERE, missing


def test_smoke(tmp_path: Path) -> None:
    """A short run gives figures for every case asked for, and the gateway's log has a row for every request."""
    why = missing()
    if why:
        pytest.skip(why)
    told = tmp_path / "figures"
    command = ["--cases", "get,401,tls", "--peers", "nginx,gateway", "--rounds", "1", "--seconds", "1", "--no-latency"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *command, "--json", str(told)], cwd=HERE.parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(told.read_text())
    assert set(results["cases"]) == {"get", "401"}
    assert set(results["skipped"]) == {"tls"}
    for case in results["cases"].values():
        assert set(case["slices"]) == {"nginx", "gateway"}
        assert all(slices[0]["cpu"] > 0 and slices[0]["rss"] > 0 for slices in case["slices"].values())
        audit = case["audit"]
        assert audit["answered"] <= audit["rows"] <= audit["sent"]
        assert audit["lost"] == 0
    assert "no token: 401" in done.stdout


def _results() -> dict[str, Any]:
    def rounds(*costs: float) -> list[dict[str, float]]:
        return [{"cpu": cost, "rate": 1e6 / cost, "rss": 60.0, "pss": 50.0, "others": 0.1} for cost in costs]

    complete = {"rows": 1005, "lost": 0, "answered": 1000, "sent": 1010, "complete": True}
    case = {"slices": {"nginx": rounds(10, 20, 10), "gateway": rounds(15, 30, 30)}, "audit": complete}
    refused = {"slices": {"nginx": rounds(10, 10, 10), "gateway": rounds(5, 6, 9)}, "audit": complete}
    times = {"origin": [{"p50": 100, "p99": 200}], "gateway": [{"p50": 150, "p99": 900}]}
    return {
        "machine": "a machine", "rounds": 3, "seconds": 1, "cases": {"get": case, "401": refused},
        "skipped": {"tls": "no TLS"}, "latency": {"offered": 1000.0, "slices": times},
    }  # fmt: skip


def test_report_is_of_ratios_within_rounds() -> None:
    """A ratio is taken round by round, so that a machine that slows down for a while spoils none."""
    text = report.markdown(_results())
    assert "| 1.50 (1.50\u20133.00) |" in text
    assert "1,005 rows = 1,000 answers + 5 cut off" in text
    assert "A 401 costs 60% less than a forwarded request." in text
    assert "TLS to the client: no TLS" in text
    assert "| gateway | 0.150 | 0.900 | 0.050 | 0.700 |" in text


def test_short_audit_is_shown(tmp_path: Path) -> None:
    """Rows that are missing stand out in the table, and the command's status is 1."""
    results = _results()
    results["cases"]["get"]["audit"] = {"rows": 900, "lost": 0, "answered": 1000, "sent": 1010, "complete": False}
    assert "**900 rows, 0 lost, of 1,000 to 1,010 requests**" in report.markdown(results)
    told = tmp_path / "figures"
    told.write_text(json.dumps(results))
    assert main(["--from", str(told)]) == 1
    told.write_text(json.dumps(_results()))
    assert main(["--from", str(told)]) == 0


@pytest.mark.parametrize(
    ("rows", "lost", "complete"), [(99, 0, False), (100, 0, True), (104, 0, True), (105, 0, False), (100, 1, False)]
)
def test_audit_is_complete_between_answered_and_sent(rows: int, lost: int, complete: bool) -> None:
    """A row less than answers, a row more than requests, or a loss on record: the log is not complete."""

    class Stopped:
        def remembered(self) -> tuple[int, int]:
            return rows, lost

    assert audited(Stopped(), Count(answered=100, sent=104))["complete"] is complete  # type: ignore[arg-type]


def test_chart_shows_every_case_measured() -> None:
    """The picture is well-formed, names each case, and has colours for dark pages."""
    picture = chart(_results())
    root = ElementTree.fromstring(picture)
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {CASES[0].label, "no token: 401", "1.50", "0.60"} <= texts
    assert "prefers-color-scheme: dark" in picture


def test_docs_are_rewritten_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures go between their marks in the manual; what people wrote around them stays."""
    shutil.copy(report.DOCS / "performance.md", tmp_path)
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr("tests.bench.__main__.DOCS", tmp_path)
    before = (tmp_path / "performance.md").read_text()
    write_docs(_results())
    write_docs(_results())
    report.rewrite("growth", "grown")
    text = (tmp_path / "performance.md").read_text()
    assert text.count("| no token: 401 |") == 2
    assert text.count("grown") == before.count("grown") + 1
    assert [line for line in text.splitlines() if line.startswith("#")] == [line for line in before.splitlines() if line.startswith("#")]
    assert (tmp_path / "performance.svg").read_text().startswith("<svg")
    with pytest.raises(LookupError):
        report.rewrite("nothing", "")


def test_unknown_case_is_named() -> None:
    """A misspelt case is refused with the names there are."""
    assert [case.name for case in chosen("401,get")] == ["401", "get"]
    with pytest.raises(ValueError, match="no case gte; there are get, rs256"):
        chosen("gte")


def test_store_is_measured_full() -> None:
    """The counting store holds exactly the keys it may, and refuses all others, while it is measured."""
    row = _stored(100, takes=1000)
    assert (row["held"], row["refused"]) == (100, 1000)
