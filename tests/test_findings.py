"""The tables of results on the pages of families are written from runs, by tools/findings.py."""

from __future__ import annotations

from types import ModuleType

import pytest

from harness.analysis import RunView
from harness.api import HarnessError
from tests.conftest import ROOT
from tests.results import builders
from tests.tools import load_tool

PAGE = """before
<!-- table: toy alpha: accuracy, difference, verdict, seeds -->
| what stood here |
<!-- end of table -->
<!-- table: other alpha: accuracy -->
| of another run |
<!-- end of table -->
<!-- claims: toy -->
<!-- end of claims -->
after
"""


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    return load_tool("findings")


@pytest.fixture(scope="module")
def view() -> RunView:
    suite = builders.make_suite(tuning={}, margins={"accuracy": 1.0}, claims=(builders.make_claim(),))
    scores = {"toys/base": 50.0, "toys/a": 60.0, "toys/b": 40.0}
    rows = [
        builders.make_row(technique=name, seed=seed, metrics={"accuracy": score + seed * (0.1 + score / 1000)})
        for name, score in scores.items()
        for seed in range(5)
    ]
    rows.append(builders.make_row(technique="toys/slow", status="timeout", reason="after 120 s in init"))
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


def test_the_tables_of_a_run_are_filled_and_all_else_stays(findings: ModuleType, view: RunView) -> None:
    text = findings.filled(PAGE, {"toy": view})
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "what stood here" not in text
    assert "| of another run |" in text
    assert "| alpha | accuracy, % | difference, points | verdict | seeds |" in text
    (best,) = (line for line in text.splitlines() if line.startswith("| `a` |"))
    assert best.endswith("| better | 5 |")
    assert "`slow`: 1 of 1 cases failed: timeout after 120 s in init. A run of 2026-01-01" in text
    assert "| alpha | reproduced, +20.0 ±0.0 points |" in text
    assert findings.filled(text, {"toy": view}) == text


def test_a_column_that_the_run_does_not_have_is_named(findings: ModuleType, view: RunView) -> None:
    with pytest.raises(HarnessError, match="has no metric 'acuracy'"):
        findings.filled(PAGE.replace("accuracy", "acuracy", 1), {"toy": view})


def test_every_table_of_the_pages_is_closed(findings: ModuleType) -> None:
    for page in (ROOT / "docs/families").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for kind, pattern in (("table", findings._TABLE), ("claims", findings._CLAIMS)):
            assert text.count(f"<!-- {kind}:") == text.count(f"<!-- end of {kind} -->") == len(pattern.findall(text))
