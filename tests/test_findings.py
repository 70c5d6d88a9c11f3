"""The tables of results on the pages of families are written from runs, by tools/findings.py."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from harness.analysis import RunView
from harness.api import HarnessError
from harness.host import load_host
from harness.report.naming import short
from harness.suite import read_suite
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
def verdicts() -> ModuleType:
    return load_tool("verdicts")


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
    text = findings.filled(PAGE, {"toy": [view]})
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "what stood here" not in text
    assert "| of another run |" in text
    assert "| alpha | accuracy, % | difference, points | verdict | seeds |" in text
    (best,) = (line for line in text.splitlines() if line.startswith("| `a` |"))
    assert best.endswith("| better | 5 |")
    assert "`slow`: 1 of 1 cases failed: timeout after 120 s in init. A run of 2026-01-01" in text
    assert "| alpha | reproduced, +20.0 ±0.0 points |" in text
    assert findings.filled(text, {"toy": [view]}) == text


def test_a_column_that_the_run_does_not_have_is_named(findings: ModuleType, view: RunView) -> None:
    with pytest.raises(HarnessError, match="has no metric 'acuracy'"):
        findings.filled(PAGE.replace("accuracy", "acuracy", 1), {"toy": [view]})


ACROSS = """<!-- across: toy difference: alpha, beta; b, a -->
| what stood here |
<!-- end of across -->
<!-- table: toy alpha: accuracy, train/s -->
| of an earlier run |
<!-- end of table -->
"""


def test_a_table_across_workloads_has_the_verdict_behind_each_difference(findings: ModuleType) -> None:
    workloads = ("core/alpha", "core/beta", "core/gone")
    suite = builders.make_suite(tuning={}, margins={"accuracy": 1.0}, workloads=workloads)
    rows = [
        row
        for number, workload in enumerate(workloads[:2])
        for name, score in {"toys/base": 50.0, "toys/a": 60.0, "toys/b": 40.0 + 20 * number}.items()
        for row in builders.scored(name, [score + seed * (0.1 + score / 1000) for seed in range(5)], workload=workload)
    ]
    rows.append(builders.make_row(technique="toys/a", workload="core/gone", status="unavailable", reason="needs it"))
    view = RunView.build(builders.make_run(suite), rows, builders.METRICS)
    left: list[str] = []
    lines = findings.filled(ACROSS.replace("beta", "beta, gone"), {"toy": [view]}, left).splitlines()
    assert lines[1] == "| difference, points | alpha | beta |"
    assert [re.sub(r" ±[0-9.]+", "", line) for line in lines[3:5]] == [
        "| `b` | -10.0 worse | +10.0 better |", "| `a` | +10.0 better | +10.0 better |",
    ]  # fmt: skip
    assert lines[6].startswith("No result on gone: unavailable: needs it. A run of")
    assert "| of an earlier run |" in lines, "no time was measured"
    assert left == ["<!-- table: toy alpha: accuracy, train/s -->"]


def test_a_table_is_of_the_first_run_that_measured_it_and_says_the_command(findings: ModuleType) -> None:
    suite = builders.make_suite(tuning={})
    rows = [*builders.scored("toys/base", [90.0, 91.0]), *builders.scored("toys/a", [92.0, 94.0])]
    timed = builders.timed("toys/a", [0.1, 0.11, 0.1], [0.05, 0.05, 0.06])
    chosen = {
        "techniques": ["a", "b c"],
        "lanes": ["time", "accuracy"],
        "params": {"lr": 1},
        "seeds": [0, 1],
        "until": "5min",
    }
    views = [
        RunView.build(builders.make_run(suite, selection=selection), kept, builders.METRICS)
        for selection, kept in (({"lanes": ["accuracy"]}, rows), (chosen, [*rows, timed]))
    ]
    text = findings.filled(ACROSS.replace("alpha, beta; b, a", "alpha"), {"toy": views})
    first, second = re.findall(r"\(`(.*?)`\)", " ".join(text.split()))
    assert first == "harness run --suite toy --lane accuracy"
    assert second == (
        "harness run --suite toy --technique a --technique 'b c' --param lr=1 --lane time --lane accuracy --seeds 2 "
        "--until 5min"
    )
    assert re.search(r"\| `a` \| 93\.0 ±12\.7 \| ~?x[0-9.]+ \|", text)


def _kinds(findings: ModuleType) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return (("table", findings._TABLE), ("across", findings._ACROSS), ("claims", findings._CLAIMS))


def test_every_table_of_the_pages_is_closed(findings: ModuleType) -> None:
    for page in (ROOT / "docs/families").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for kind, pattern in _kinds(findings):
            assert text.count(f"<!-- {kind}:") == text.count(f"<!-- end of {kind} -->") == len(pattern.findall(text))


def test_the_verdicts_of_a_page_are_read_back_as_they_were_written(
    findings: ModuleType, verdicts: ModuleType, view: RunView
) -> None:
    (found,) = verdicts.verdicts(findings.filled(PAGE, {"toy": [view]}))
    assert (found.suite, found.where, found.verdict) == ("toy", "alpha", "reproduced")
    assert found.said == f"{builders.make_claim().says} ({builders.make_claim().source})"
    assert verdicts.counted([found, found]) == "2 reproduced"
    with pytest.raises(ValueError, match="'better' begins with no verdict of reproduced, contradicted, undecided"):
        verdicts.verdicts("<!-- claims: toy -->\n| claim | where | verdict |\n|---|---|---|\n| a | b | better |\n")


def test_every_claim_of_the_suites_has_a_verdict_and_the_readme_counts_them(
    findings: ModuleType, verdicts: ModuleType
) -> None:
    host, found = load_host(), verdicts.of_all_pages()
    told = {(each.suite, each.said) for each in found}
    for name in host.declared.suites:
        for claim in read_suite(name, host).claims:
            said = (short(name), f"{claim.says} ({claim.source})".replace("|", "/"))
            assert said in told, f"{name}: {claim.id}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        f"Of {len(found)} verdicts on what papers claim, each on one workload: {verdicts.counted(found)}"
        in " ".join(readme.split())
    )
    assert findings.with_verdicts(readme, found) == readme
