"""The page of a run: the figures of the terminal's table, nothing from elsewhere, and nothing that runs by accident."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from harness.analysis import RunView
from harness.api import UsageError
from harness.report.formats import render
from harness.report.frame import INDEX, SCRIPT
from harness.report.page import render_page, write_file, write_page
from tests import browser
from tests.conftest import ROOT, Harness
from tests.report.elements import Elements

EVIL = '</script><script>alert("x")</script>'


def test_the_table_has_the_figures_of_the_terminal_s(full_view: RunView) -> None:
    table = Elements(render_page(full_view)).table("verdict")
    github = [[cell.strip() for cell in line.strip("|").split("|")] for line in render(full_view, "github").split("\n")]
    assert set(table) == {"toys/a", "toys/full", "toys/bad"}
    for line in github[2:5]:
        shown = dict(zip(github[0], line, strict=True))
        mine = table[shown["technique"]]
        assert mine["verdict"] == shown["verdict"]
        shared = set(mine) & set(shown) - {"technique"}
        assert len(shared) >= 6
        for column in shared:
            assert mine[column] == shown[column], column


def test_the_heading_says_what_ran_when_on_what_and_at_which_commit(full_view: RunView) -> None:
    head = render_page(full_view).partition("</header>")[0]
    for fact in ("toy v1", "20260101-000000-abcd", "2026-01-01 00:00 UTC, took 1 min", "0, 1, 2, 3, 4", "<dd>cpu</dd>"):
        assert fact in head
    assert "c0ffee1234 (harness), c0ffee1234 with changes (toys)" in head
    assert "quick" not in head
    assert "unfinished" not in head


def test_a_changed_suite_and_the_reason_for_an_unknown_commit_are_told(builders) -> None:
    code = {"harness": {"commit": None, "commit_unknown": "dubious ownership", "version": "1.0"}}
    run = builders.make_run(environment={"code": code, "suite": {"commit": None, "dirty": True}})
    text = render_page(RunView.build(run, builders.scored("toys/base", [80.0]), builders.METRICS))
    assert "toy v1 with changes" in text
    assert "1.0 · commit unknown: dubious ownership" in text


@pytest.mark.parametrize("form", ["quick", "track"])
def test_a_short_form_is_labelled(builders, form: str) -> None:
    run = builders.make_run(builders.make_suite(form=form))
    text = render_page(RunView.build(run, builders.scored("toys/base", [80.0]), builders.METRICS))
    assert f'<span class="label">{form}</span>' in text


def test_what_suites_claims_and_failures_say_is_shown_and_never_run(builders) -> None:
    claim = builders.make_claim(better="toys/a", than="toys/base", says=EVIL, source=f"javascript:{EVIL}")
    suite = builders.make_suite(title=EVIL, claims=(claim,), tuning={"lr": (EVIL, "b")})
    rows = [
        *(
            builders.make_row(
                technique=name, tuned={"lr": rate}, stage="tuning", series={EVIL: [1.0, 2.0]}, seed=seed,
                metrics={"accuracy": 80.0, "val_loss": 1.0},
            )
            for name in ("toys/a", "toys/base") for rate in (EVIL, "b") for seed in (0, 1)
        ),
        builders.make_row(technique="toys/bad", status="error", reason=EVIL, detail=f"Trace {EVIL}"),
    ]  # fmt: skip
    run = builders.make_run(
        suite, plugins=({"name": EVIL, "distribution": "", "version": "", "status": "", "cause": EVIL},)
    )
    text = render_page(RunView.build(run, rows, builders.METRICS), tuple(rows))
    assert EVIL not in text
    assert "alert(" in text
    assert "Trace &lt;/script&gt;&lt;script&gt;alert(" in text
    tags = Elements(text).tags
    scripts = [attributes for tag, attributes in tags if tag == "script" and "type" not in attributes]
    assert [script.get("src") for script in scripts] == [None, SCRIPT, None]
    assert not [attributes for _, attributes in tags if (attributes.get("href") or "").startswith("javascript")]
    assert not [attributes for _, attributes in tags if any(name.startswith("on") for name in attributes)]


def test_nothing_is_fetched_from_elsewhere(full_view: RunView) -> None:
    text = render_page(full_view)
    for tag, attributes in Elements(text).tags:
        for name in ("src", "href", "srcset", "data", "action"):
            address = attributes.get(name) or ""
            if tag != "a":
                assert "//" not in address, (tag, address)
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_every_tested_claim_has_its_verdict_and_a_link_to_its_source(full_view: RunView) -> None:
    text = render_page(full_view)
    assert text.count('class="verdict reproduced"') == 2
    assert 'href="https://arxiv.org/abs/2406.08447"' in text
    assert "Without results here: none-such" in text


def test_headings_go_down_by_single_steps_and_every_header_cell_says_what_it_heads(full_view: RunView) -> None:
    tags = Elements(render_page(full_view)).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    plots = [attributes for tag, attributes in tags if tag == "div" and attributes.get("class") == "plot"]
    assert plots
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in plots)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {(attributes.get("href") or "")[1:] for tag, attributes in tags if tag == "a"}
    assert {"workload-0", "workload-1", "claims"} <= targets
    assert {target for target in targets if target and not target.startswith(("ttps", "ndex"))} <= set(ids)


def test_failures_of_one_kind_are_told_once_with_their_cases_and_what_they_left(builders) -> None:
    rows = tuple(
        builders.make_row(technique="toys/bad", seed=seed, status="crash", reason="crash: SIGSEGV", detail="last words")
        for seed in (0, 1)
    )
    text = render_page(RunView.build(builders.make_run(), rows, builders.METRICS), rows)
    failures = text.partition('id="failures"')[2].partition("</section>")[0]
    assert failures.count("<details>") == 1
    assert "2 cases: SIGSEGV" in failures
    assert failures.count("last words") == 1
    assert "accuracy, seed 0 · accuracy, seed 1" in failures
    assert "harness show row abcd/toys/bad" in failures


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_nothing_or_of_failures_only_has_a_page(builders, count: int) -> None:
    rows = tuple(builders.make_row(technique="toys/bad", status="error", reason="no luck") for _ in range(count))
    run = builders.make_run(exit_code=None, finished="", planned=7)
    text = render_page(RunView.build(run, rows, builders.METRICS), rows)
    assert ("This run has no rows yet." in text) == (count == 0)
    assert f"{count} of 7 cases are done" in text
    assert ("Failures" in text) == (count == 1)
    assert not Elements(text).charts


def test_pages_share_one_script_and_are_listed_newest_first(full_view: RunView, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    paths = [write_page(full_view, folder, name=name) for name in ("20260101-a", "20260202-b")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(path.name for path in paths), INDEX, SCRIPT])
    index = (folder / INDEX).read_text()
    assert re.findall(r'href="(.*?)"', index) == ["20260202-b.html", "20260101-a.html"]
    assert index.count("A toy · run abcd") == 2
    assert "toy v1 · alpha, beta · 2026-01-01" in index


def test_a_title_is_as_harmless_in_the_list_of_pages(builders, tmp_path: Path) -> None:
    run = builders.make_run(builders.make_suite(title=EVIL))
    write_page(RunView.build(run, (), builders.METRICS), tmp_path)
    index = (tmp_path / INDEX).read_text()
    assert EVIL not in index
    assert "&lt;/script&gt;&lt;script&gt;alert(&#34;x&#34;)" in index


def test_the_wheel_ships_the_templates() -> None:
    folder = ROOT / "harness/report/templates"
    assert {path.name for path in folder.iterdir()} == {
        *("base.html", "beside.html", "charts.html", "claims.html", "history.html", "overview.html", "page.html"),
        *("index.html", "style.css", "theme.js", "tables.js", "page.js", "moved.js"),
    }
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not {"*.html", "*.css", "*.js", "templates"} & set(ignored), "hatchling leaves out what git ignores"


def test_in_a_browser_without_a_network_all_charts_are_drawn_and_columns_sort(
    full_view: RunView, tmp_path: Path
) -> None:
    path = write_page(full_view, tmp_path / "pages")
    script = """
      const table = document.querySelector("section table"), buttons = [...table.querySelectorAll("thead button")];
      const press = (column) => buttons[column].click();
      const order = () => table.tBodies[0].innerText.match(/toys.\\w+/g).join();
      addEventListener("load", () => {
        document.body.dataset.asWritten = order();
        press(0); document.body.dataset.byName = order();
        press(3); document.body.dataset.down = order(); press(3); document.body.dataset.up = order();
        press(buttons.findIndex((one) => one.innerText === "train/s")); document.body.dataset.fastest = order();
      });
    """
    with browser.serve(path.parent, script) as address:
        seen = browser.dom(f"{address}/{path.name}", tmp_path)
    plots = len(Elements(path.read_text()).charts) * len(full_view.workloads)
    body = next(attributes for tag, attributes in Elements(seen).tags if tag == "body")
    assert int(body["data-drawn"] or 0) == seen.count('class="plot js-plotly-plot"') == plots
    assert seen.count('class="main-svg"') >= plots
    assert re.findall('<th[^>]* aria-sort="(.*?)"', seen) == ["descending"]
    assert body["data-as-written"] == "toys/a,toys/full,toys/bad"
    assert body["data-by-name"] == "toys/a,toys/bad,toys/full"
    assert body["data-down"] == "toys/a,toys/full,toys/bad"
    assert body["data-up"] == "toys/full,toys/a,toys/bad"
    assert body["data-fastest"] == "toys/a,toys/full,toys/bad", "the baseline's own rate stands for a ratio of 1"


def test_a_page_in_one_file_draws_its_charts_alone(full_view: RunView, tmp_path: Path) -> None:
    path = tmp_path / "mailed" / "page.html"
    write_file(full_view, path)
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    seen = browser.dom(path.as_uri(), tmp_path)
    plots = len(Elements(render_page(full_view)).charts) * len(full_view.workloads)
    assert seen.count('class="plot js-plotly-plot"') == plots > 0
    assert "is not beside this page" not in re.sub("(?s)<script>.*?</script>", "", seen)
    with pytest.raises(UsageError, match=r"(?s)cannot write .*name a file"):
        write_file(full_view, path / "page.html")


def test_without_its_script_a_page_says_what_is_missing(full_view: RunView, tmp_path: Path) -> None:
    path = write_page(full_view, tmp_path / "pages")
    (path.parent / SCRIPT).unlink()
    assert "the file plotly.min.js is not beside this page" in browser.dom(path.as_uri(), tmp_path)


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
    assert "harness -p harness_toy report" in run.stdout
    done = harness("report", "-p", "harness_toy", "--no-plugins", **environment)
    assert done.returncode == 0, done.stderr
    text = Path(done.stdout.strip()).read_text()
    assert "a toy that raises" in text
    assert "toy/good" in text
    mailed = tmp_path / "mailed.html"
    done = harness("report", "--one-file", str(mailed), "-p", "harness_toy", "--no-plugins", **environment)
    assert done.returncode == 0, done.stderr
    assert mailed.stat().st_size > 4_000_000
    both = harness("report", "--one-file", str(mailed), "--output", "pages", "-p", "harness_toy", **environment)
    assert both.returncode == 2
    assert "expected one of them" in both.stderr
    unknown = harness("report", "nosuch", "-p", "harness_toy", "--no-plugins", **environment)
    assert unknown.returncode == 2
    assert "nosuch" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_a_folder_s_other_files_are_neither_listed_nor_lost(full_view: RunView, tmp_path: Path) -> None:
    other = b"<title>caf\xe9<script>alert(1)</script></title>"
    (tmp_path / "other.html").write_bytes(other)
    write_page(full_view, tmp_path)
    write_page(full_view, tmp_path)
    assert "alert" not in (tmp_path / INDEX).read_text()
    assert (tmp_path / "other.html").read_bytes() == other
    (tmp_path / INDEX).write_text("my site")
    with pytest.raises(UsageError, match="not a list of runs"):
        write_page(full_view, tmp_path)
    assert (tmp_path / INDEX).read_text() == "my site"


def test_a_folder_that_cannot_be_written_to_is_one_clear_line(full_view: RunView, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write pages to"):
        write_page(full_view, tmp_path / "file" / "pages")


def test_where_the_runs_lie_is_not_published(full_view: RunView) -> None:
    assert str(full_view.info.folder) not in render_page(full_view)
