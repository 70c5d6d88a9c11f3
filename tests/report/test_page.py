"""The page of a run: the figures of the terminal's table, nothing from elsewhere, and nothing that runs by accident."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.analysis import RunView
from harness.report.formats import render
from harness.report.page import INDEX, SCRIPT, render_page, write_page
from tests import browser
from tests.conftest import ROOT, Harness

EVIL = '<script>alert("x")</script>'


class Elements(HTMLParser):
    """Tags with their attributes, and the text of the tables' cells by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def view(builders) -> RunView:
    """Two techniques and a failed one on two workloads, tuned, timed, with curves and two claims."""
    claims = (
        builders.make_claim(better="toys/a", than="toys/full", source="arXiv:2406.08447"),
        builders.make_claim(id="none-such", better="toys/c", than="toys/d"),
    )
    workloads = ("core/alpha", "core/beta")
    suite = builders.make_suite(workloads=workloads, baseline="toys/full", claims=claims)
    rows = [row for workload in workloads for row in rows_of(builders, workload)]
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


def rows_of(builders, workload):
    for name, shift in (("toys/full", 0.0), ("toys/a", 5.0)):
        for seed, noise in enumerate((0.0, 0.5, -0.5, 0.2, -0.2)):
            for rate in (0.1, 0.2) if seed < 2 else (0.2,):
                yield builders.make_row(
                    technique=name, workload=workload, seed=seed, tuned={"lr": rate},
                    stage="tuning" if seed < 2 else "final", series={"train_loss": [2.0, 1.0 + noise]},
                    metrics={"accuracy": 80 + shift + noise * (1 + shift / 10), "val_accuracy": 70 + rate,
                             "loss": 1.0, "val_loss": 1 - rate},
                )  # fmt: skip
        yield builders.make_row(
            technique=name, workload=workload, lane="memory", tuned={"lr": 0.2},
            metrics={"train_tensor_peak": 2e6 + 1e6 * shift},
        )  # fmt: skip
        times = [0.01, 0.011, 0.0105]
        yield builders.make_row(
            technique=name, workload=workload, lane="time", tuned={"lr": 0.2},
            metrics={"train_throughput": 3200.0}, samples={"train": times, "baseline.train": times[::-1]},
        )  # fmt: skip
    yield failed_row(builders, workload)


def failed_row(builders, workload):
    return builders.make_row(
        technique="toys/bad", workload=workload, status="error", reason=EVIL, detail=f"Trace {EVIL}"
    )


def test_the_table_has_the_figures_of_the_terminal_s(view: RunView) -> None:
    rows = Elements(render_page(view)).rows
    plain = json.loads(render(view, "json"))
    header = next(row for row in rows if row[0] == "technique")
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows[1 : rows.index(header) + 4]}
    github = [[cell.strip() for cell in line.strip("|").split("|")] for line in render(view, "github").splitlines()]
    for line in github[2:5]:
        shown = dict(zip(github[0], line, strict=True))
        mine = table[shown["technique"]]
        assert mine["verdict"] == shown["verdict"]
        for column in set(mine) & set(shown) - {"technique", "verdict"}:
            assert mine[column] == shown[column], column
    assert len(set(header) & set(github[0])) >= 6
    assert {one["technique"] for one in plain["workloads"][0]["techniques"]} == set(table)


def test_what_techniques_and_failures_say_is_shown_and_never_run(view: RunView, builders) -> None:
    text = render_page(view, (failed_row(builders, "core/alpha"),))
    assert EVIL not in text
    assert text.count("&lt;script&gt;alert(") >= 3
    assert "Trace &lt;script&gt;" in text
    scripts = [attributes for tag, attributes in Elements(text).tags if tag == "script"]
    assert [one.get("src") for one in scripts if one.get("src")] == [SCRIPT]


def test_nothing_is_fetched_from_elsewhere(view: RunView) -> None:
    text = render_page(view)
    for tag, attributes in Elements(text).tags:
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            if tag != "a":
                assert "//" not in address, (tag, address)
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_every_workload_has_its_charts_and_every_tested_claim_its_verdict_and_source(view: RunView) -> None:
    text = render_page(view)
    titles = re.findall(r"<h3>(.*?)</h3>", text)
    assert titles == ["Differences to the baseline", "Quality and cost", "Speed", "Response to lr", "Training"] * 2
    assert text.count('class="verdict reproduced"') == 2
    assert 'href="https://arxiv.org/abs/2406.08447"' in text
    assert "Without results here: none-such" in text


def test_charts_hold_the_view_s_numbers(view: RunView) -> None:
    text = render_page(view)
    one = next(one for one in view.workloads[0].techniques if one.technique == "toys/a")
    found = json.loads(re.search(r'Plotly\.newPlot\(\s*"chart-0-0",\s*(\[.*?\]),\s*\{', text, re.DOTALL)[1])
    (trace,) = found
    assert trace["name"] == one.verdict == "better"
    assert trace["x"] == [pytest.approx(one.comparison.difference.value)]
    assert trace["error_x"]["array"] == [
        pytest.approx(one.comparison.difference.high - one.comparison.difference.value)
    ]


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_nothing_or_of_failures_only_has_a_page(builders, count: int) -> None:
    rows = tuple(failed_row(builders, "core/alpha") for _ in range(count))
    suite = builders.make_suite()
    text = render_page(
        RunView.build(builders.make_run(suite, exit_code=None, finished=""), rows, builders.METRICS), rows
    )
    assert ("This run has no rows yet." in text) == (count == 0)
    assert "unfinished" in text
    assert ("Failures" in text) == (count == 1)


def test_pages_share_one_script_and_are_listed_newest_first(view: RunView, tmp_path: Path) -> None:
    paths = [write_page(view, tmp_path / "pages", name=name) for name in ("20260101-a", "20260202-b")]
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == sorted(
        [*(path.name for path in paths), INDEX, SCRIPT]
    )
    links = re.findall(r'href="(.*?)"', (tmp_path / "pages" / INDEX).read_text())
    assert links == ["20260202-b.html", "20260101-a.html"]


def test_the_wheel_ships_the_templates() -> None:
    folder = ROOT / "harness/report/templates"
    assert {path.name for path in folder.iterdir()} == {"page.html", "index.html", "style.css", "page.js"}
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not {"*.html", "*.css", "*.js", "templates"} & set(ignored), "hatchling leaves out what git ignores"


def test_in_a_browser_without_a_network_the_charts_are_drawn_and_columns_sort(view: RunView, tmp_path: Path) -> None:
    path = write_page(view, tmp_path / "pages")
    script = 'addEventListener("load", () => document.querySelectorAll("thead button")[2].click());'
    with browser.serve(path.parent, script) as address:
        seen = browser.dom(f"{address}/{path.name}", tmp_path)
    assert seen.count('class="main-svg"') >= 10
    assert 'aria-sort="descending"' in seen
    order = [row[0] for row in Elements(seen).rows if row and row[0].startswith("toys/")][:3]
    assert order == ["toys/a", "toys/full", "toys/bad"]


def test_the_command_writes_the_page_and_says_where(harness: Harness, tmp_path: Path) -> None:
    nothing = harness("report")
    assert nothing.returncode == 2
    assert "no runs" in nothing.stderr
    toys = ROOT / "tests/toy"
    environment = {"PYTHONPATH": str(toys)}
    chosen = ["--technique", "good", "--technique", "raises", "--lane", "accuracy", "--track", "--quiet"]
    suite = tmp_path / "mine.toml"
    suite.write_text((toys / "toys.toml").read_text().replace('"twin"', '"raises"'))
    run = harness("run", "-p", "harness_toy", "--no-plugins", "--suite", str(suite), *chosen, **environment)
    assert run.returncode == 1, run.stderr
    assert "harness report" in run.stdout
    done = harness("report", "-p", "harness_toy", "--no-plugins", **environment)
    assert done.returncode == 0, done.stderr
    text = Path(done.stdout.strip()).read_text()
    assert "a toy that raises" in text
    assert "toy/good" in text
