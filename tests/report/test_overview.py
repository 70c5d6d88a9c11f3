"""The first page of a tracking site: words and units that people read, nothing loaded, and foreign names only text."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.history.decisions import Accepted
from harness.history.latest import Around, matrices
from harness.report.overview import Addresses, Overview, change_since, how_to_decide, told_of
from harness.report.overview_page import render_overview, write_overview
from tests.browser import browse, dom, serve
from tests.history.test_latest import COMMITS, TIMELINE, judged, run_of, series
from tests.report.elements import Elements
from tests.results.builders import scored, timed

WILD = "toys/<script>document.body.dataset.evil = 1</script>"
RELEASE = {COMMITS[2]: "v1"}
STEADY = [1.0, 1.001, 0.999, 1.0, 1.001, 0.999, 1.0, 1.001]
CACHE = Accepted(metric="train_tensor_peak", technique="toys/b", commit=COMMITS[4], reason="a cache", author="me")


def overview(**changes: Any) -> Overview:
    """The page of three techniques: one got worse at the last commit, one was accepted, one has a wild name."""
    given = [
        series("toys/a", "accuracy", [90.0] * 7 + [85.0]),
        series("toys/a", "train_ratio", STEADY),
        series("toys/b", "train_tensor_peak", [2.0**24] * 4 + [3 * 2.0**23] * 4),
        series("toys/b", "train_ratio", [1.0] * 7),
        series(WILD, "accuracy", [90.0] * 8),
    ]
    tagged = changes.pop("tagged", RELEASE)
    rows = [*scored("toys/a", [85.0]), timed("toys/b", [0.2] * 12, [0.1, 0.3] * 6), *scored(WILD, [90.0])]
    found = judged(*changes.pop("given", given), accepted=(CACHE,))
    around = Around(timeline=TIMELINE, tags=lambda _: tagged, runs=lambda _: [run_of(rows)])
    stated: dict[str, Any] = {
        "project": "the project",
        "matrices": matrices(found, around),
        "subjects": {COMMITS[7]: "drop <it>"},
        "addresses": Addresses(
            line=lambda series, commit: f"asv.html#{series.name.metric}?{commit}",
            run=lambda _, point: f"runs/{point.run}.html",
        ),
        "others": {"All lines (asv)": "asv.html#/"},
    }
    return Overview(**{**stated, **changes})


@pytest.fixture(scope="module")
def page() -> str:
    return render_overview(overview())


def text_of(page: str) -> str:
    """The words of a page, as a reader gets them."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page.partition("<body>")[2], flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_a_page_says_in_words_what_got_worse_and_what_was_accepted(page: str) -> None:
    text = text_of(page)
    assert "Worse: 1 of 5 series; 1 change accepted" in text
    assert "toy · a on alpha · accuracy : 90.0 % → 85.0 %, -5.0 points, at 888888888 (drop <it>)" in text
    assert (
        "toy · b on alpha · train memory (live tensors) : 16.0 MiB → 24.0 MiB, +50.0 %, at 555555555 ; a cache (me)"
        in text
    )
    assert "Since the commit before: 1 worse. Since the release v1: 1 worse, 1 accepted." in text


def test_nothing_worse_is_said_in_words() -> None:
    quiet = overview(given=[series("toys/a", "accuracy", [90.0] * 3)], tagged={COMMITS[0]: "v1"})
    assert "Nothing got worse: 1 series" in render_overview(quiet)
    assert told_of(quiet.matrices[0]) == [
        "Nothing got worse.",
        "Since the commit before: nothing got worse.",
        "Since the release v1: nothing got worse.",
    ]


def test_values_have_units_and_headings_words(page: str) -> None:
    text = text_of(page)
    for words in ("accuracy more is better", "train time × baseline, less is better", "train memory live tensors"):
        assert words in text
    for value in ("85.0 %", "24.0 MiB", "x1.00"):
        assert value in text
    assert "train_ratio" not in text


def test_a_value_that_is_missing_says_why_and_what_was_last(page: str) -> None:
    cell = re.search(r"too noisy: needs more rounds.*?</td>", page, re.DOTALL)
    assert cell is not None
    assert "x1.00" in cell[0]
    assert f"at {COMMITS[6][:9]}" in cell[0]
    assert 'class="verdict' not in cell[0], "an old value is compared with nothing"


def test_one_click_leads_to_the_line_and_to_the_run(page: str) -> None:
    addresses = {attributes["href"] for tag, attributes in Elements(page).tags if tag == "a"}
    assert {"asv.html#accuracy?", f"asv.html#accuracy?{COMMITS[7]}", "runs/run-88.html", "asv.html#/"} <= addresses


def test_without_a_release_the_page_says_so() -> None:
    given = [series("toys/a", "accuracy", [90.0, 90.0])]
    text = text_of(render_overview(overview(given=given, tagged={})))
    assert "No tag before it has results, so nothing is compared with a release." in text
    assert "release ■" not in text
    text = text_of(render_overview(overview(given=[series("toys/a", "accuracy", [90.0])])))
    assert "There is nothing to compare yet: each suite has results of one commit" in text
    assert "It is the only commit with results, so there is nothing to compare it with." in text
    assert "got worse" not in text


def test_a_page_without_results_leads_to_those_of_asv() -> None:
    text = text_of(render_overview(overview(matrices=[])))
    assert "There are no stored results to show" in text
    assert "All lines (asv)" in text


@pytest.mark.parametrize(
    ("values", "state", "verdict", "size"),
    [
        (STEADY, "same", "same", "+0.2 %"),
        ([1.0, 1.001, 0.999, 1.0, 1.2, 1.201, 1.199, 1.2], "worse", "worse", "+20.0 %"),
        ([1.0, 1.001, 0.999, 1.0, 1.001, 0.999, 1.3, 1.301], "undecided", "too early to tell", "+30.2 %"),
        ([1.0, 1.02, 1.04, 1.06, 1.08, 1.1], "undecided", "undecided", "+5.8 %"),
        ([1.0, 1.001, 0.999, 1.0], "few", "too few points", "+0.1 %"),
    ],
)
def test_a_time_is_called_the_same_only_where_it_is_near(
    values: list[float], state: str, verdict: str, size: str
) -> None:
    shown = overview(given=[series("toys/a", "train_ratio", values)])
    since = shown.matrices[0].cells["toys/a", "core/alpha"]["train_ratio"].release
    assert since is not None
    change = change_since(since)
    assert (change.state, change.verdict, change.size) == (state, verdict, size)
    command = f"harness compare v1 {COMMITS[len(values) - 1][:9]} --suite toy"
    assert how_to_decide(shown.matrices[0]) == (command if state == "undecided" else "")


def test_a_worse_level_from_before_the_release_is_not_forgotten() -> None:
    given = [series("toys/a", "train_tensor_peak", [2.0**20, 2.0**21, 2.0**21, 2.0**21])]
    text = text_of(render_overview(overview(given=given)))
    assert "release same commit same before worse at 222222222" in text


def test_the_page_loads_nothing_and_a_script_in_a_name_is_text(page: str) -> None:
    assert "<script>document.body" not in page
    assert "&lt;script&gt;document.body" in page
    assert not [attributes for _, attributes in Elements(page).tags if {"src", "srcset", "onload"} & attributes.keys()]
    assert "url(" not in page


LOOK = """
addEventListener("load", () => setTimeout(() => {
  const table = document.querySelector("table.matrix"), head = (number) => table.tHead.rows[0].cells[number];
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText);
  head(1).querySelector("button").click();
  document.body.dataset.seen = JSON.stringify({
    width: document.scrollingElement.scrollWidth, names: names(), evil: document.body.dataset.evil ?? "",
    headed: head(1).getClientRects().length > 0, loaded: performance.getEntriesByType("resource").length,
    titled: getComputedStyle(table.tBodies[0].rows[0].cells[1], "::before").content });
}, 0));
"""


@pytest.mark.parametrize(("width", "headed"), [(1280, True), (500, False)])
def test_a_browser_shows_the_matrix_wide_and_narrow(width: int, headed: bool, tmp_path: Path) -> None:
    write_overview(overview(), tmp_path / "site/index.html")
    with serve(tmp_path / "site", LOOK) as address:
        shown = browse(f"{address}/index.html#suite-1", tmp_path, "--dump-dom", f"--window-size={width},900").stdout
    found = re.search(r'data-seen="([^"]*)"', shown)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert seen["width"] <= width
    assert (seen["headed"], seen["evil"], seen["loaded"]) == (headed, "", 0)
    assert "accuracy" in seen["titled"] or headed
    assert seen["names"] == [WILD.partition("/")[2], "a", "b"], "the largest accuracy first, no value last"


def test_an_address_of_one_of_asv_s_pages_leads_there(tmp_path: Path) -> None:
    write_overview(overview(), tmp_path / "site/index.html")
    (tmp_path / "site/asv.html").write_text("<script>document.title = 'asv ' + location.hash</script>")
    with serve(tmp_path / "site") as address:
        assert "<title>asv #/regressions</title>" in dom(f"{address}/index.html#/regressions", tmp_path)
