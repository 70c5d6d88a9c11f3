"""What a page's tables do in a browser: order, search, filters, columns, by mouse and keys; nothing else runs."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import RunView
from harness.report.page import render_page, write_page
from tests import browser
from tests.report.elements import Elements

EVIL = "toys/<script>document.body.dataset.evil = 1</script>"

PLAY = """
const seen = { violations: [], errors: [] };
addEventListener("securitypolicyviolation",
  (event) => seen.violations.push(event.blockedURI + " " + event.violatedDirective));
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("load", () => {
  const table = document.querySelector("section table.data"),
    tools = table.closest("section").querySelector(".tools");
  const search = tools.querySelector("input[type=search]"), filter = tools.querySelector("select");
  const shown = () => [...table.tBodies[0].rows].filter((row) => row.getClientRects().length).map((row) =>
    row.cells[0].innerText);
  const told = () => tools.querySelector("output").textContent;
  const type = (text) => { search.value = text; search.dispatchEvent(new Event("input")); };
  const key = (name, target) => target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  seen.all = shown(); seen.told = told();
  type("TOYS/A"); seen.found = shown(); seen.toldFound = told();
  type("toys -toys/a"); seen.without = shown();
  key("Escape", search); seen.emptied = [search.value, shown().length];
  filter.value = "error"; filter.dispatchEvent(new Event("change")); seen.filtered = shown();
  filter.value = ""; filter.dispatchEvent(new Event("change"));
  seen.values = [...filter.options].map((option) => option.value);
  document.activeElement.blur(); key("/", document.body); seen.focused = document.activeElement === search;
  const boxes = [...tools.querySelectorAll(".choose input")], heads = [...table.tHead.rows[0].cells];
  const verdict = heads.findIndex((head) => head.innerText === "verdict");
  const visible = () => heads.filter((head) => head.getClientRects().length).map((head) => head.innerText);
  boxes[verdict - 1].click(); seen.columns = visible(); boxes[verdict - 1].click();
    seen.columnsAgain = visible().length === heads.length;
  const button = heads[0].querySelector("button"); button.focus();
    seen.reached = document.activeElement === button && button.tabIndex === 0;
  button.click(); seen.sort = heads[0].getAttribute("aria-sort"); seen.byName = shown();
  const colour = () => getComputedStyle(document.body).backgroundColor;
  seen.paper = colour(); document.getElementById("theme").click(); seen.other = colour();
    seen.kept = localStorage.getItem("theme");
  document.getElementById("theme").click(); seen.back = colour();
  const chart = document.querySelector(".one");
  if (chart) {
    const figures = () => [...chart.querySelectorAll("figure")].filter((figure) => !figure.hidden).map((figure) =>
      figure.innerText.length > 0);
    seen.figures = figures().length; const choice = chart.querySelector("select");
    seen.costs = [...choice.options].map((option) => option.text); choice.selectedIndex = 1;
      choice.dispatchEvent(new Event("change"));
    seen.chosen = figures().length;
  }
  setTimeout(() => {
    seen.second = chart ? chart.querySelectorAll("figure")[1].querySelectorAll(".main-svg").length : 0;
    seen.loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
    const pixel = new Image(); pixel.src = "https://example.org/pixel.png";
    setTimeout(() => { document.body.dataset.seen = JSON.stringify(seen); }, 500);
  }, 1500);
});
"""


@pytest.fixture(scope="module")
def view(builders) -> RunView:
    """Techniques with two costs, of which one bears the name of a script and one has failed."""
    rows = [
        row
        for number, name in enumerate(("toys/base", "toys/a", EVIL))
        for row in builders.scored(
            name,
            [80.0 + 3 * number, 81.0 + 3 * number, 80.5 + 3 * number],
            metrics={"adapter_parameters": 10.0 * (number + 1), "trainable_parameters": 900.0 - number},
        )
    ]
    rows.append(builders.make_row(technique="toys/bad", status="error", reason=EVIL, detail=EVIL))
    return RunView.build(builders.make_run(), rows, builders.METRICS)


@pytest.fixture(scope="module")
def page(view: RunView, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """What a reader's browser saw, the address, and what it wrote to its log; the reader likes dark pages."""
    folder = tmp_path_factory.mktemp("pages")
    path = write_page(view, folder)
    with browser.serve(folder, PLAY) as address:
        done = browser.browse(
            f"{address}/{path.name}",
            folder,
            "--dump-dom",
            "--enable-logging=stderr",
            "--blink-settings=preferredColorScheme=0",
        )
    body = next(attributes for tag, attributes in Elements(done.stdout).tags if tag == "body")
    assert "data-evil" not in body
    return json.loads(html.unescape(body["data-seen"] or "")), address, done.stderr


def test_a_search_finds_words_leaves_words_out_and_says_how_many_rows_are_left(page) -> None:
    seen = page[0]
    assert seen["all"] == [EVIL, "toys/a", "toys/base", "toys/bad"]
    assert (seen["told"], seen["toldFound"]) == ("4 rows", "1 of 4 rows")
    assert seen["found"] == ["toys/a"]
    assert seen["without"] == [EVIL, "toys/base", "toys/bad"]


def test_a_filter_has_each_verdict_and_shows_its_rows(page) -> None:
    assert page[0]["filtered"] == ["toys/bad"]
    assert page[0]["values"] == ["", "baseline", "error", "undecided"]


def test_columns_are_chosen_and_come_back(page) -> None:
    assert page[0]["columns"][:2] == ["technique", "marks"]
    assert page[0]["columnsAgain"]


def test_keys_reach_the_search_and_the_headings(page) -> None:
    seen = page[0]
    assert seen["focused"], "a slash goes to the search"
    assert seen["emptied"] == ["", 4], "Escape empties it"
    assert seen["reached"]
    assert seen["sort"] == "ascending"
    assert seen["byName"] == sorted(seen["all"], key=lambda name: name.replace("<", " "))


def test_the_page_is_dark_where_the_reader_s_system_is_and_a_switch_is_kept(page) -> None:
    seen = page[0]
    assert seen["paper"] == seen["back"] == "rgb(20, 23, 27)"
    assert seen["other"] == "rgb(255, 255, 255)"
    assert seen["kept"] == "light"


def test_a_cost_is_chosen_and_drawn_when_it_is(page) -> None:
    seen = page[0]
    assert seen["costs"] == ["adapter parameters", "trainable parameters"]
    assert (seen["figures"], seen["chosen"]) == (1, 1)
    assert seen["second"] > 0


def test_nothing_leaves_the_page_and_the_console_is_empty_but_for_what_the_policy_stops(page) -> None:
    seen, address, log = page
    assert all(name.startswith(address) for name in seen["loaded"])
    assert seen["violations"] == ["https://example.org/pixel.png img-src"], "the picture that this test asks for"
    assert not seen["errors"]
    console = [line for line in log.splitlines() if "CONSOLE" in line and "example.org/pixel.png" not in line]
    assert not [line for line in console if "favicon" not in line]


def test_charts_are_drawn_from_a_file_under_the_same_policy(view: RunView, tmp_path: Path) -> None:
    path = write_page(view, tmp_path / "pages")
    seen = browser.dom(path.as_uri(), tmp_path)
    assert seen.count('class="main-svg"') > 0
    assert "default-src &#39;none&#39;" in path.read_text()


def test_without_scripts_each_table_is_whole_and_has_nothing_to_press(view: RunView) -> None:
    text = re.sub(r"(?s)<script.*?</script>", "", render_page(view))
    tags = [tag for tag, _ in Elements(text).tags]
    assert "input" not in tags
    assert tags.count("button") == 1, "the switch between light and dark, which is hidden"
    assert len(Elements(text).table("verdict")) == 4
