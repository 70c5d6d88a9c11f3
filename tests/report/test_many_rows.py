"""Tables with very many rows: a page shows the first ones, and the others when asked; all are found and sorted."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import RunView
from harness.report import frame
from harness.report.folder import save
from harness.report.frame import Head, rendered
from harness.report.page import write_page
from tests import browser
from tests.report.elements import Elements

PLAY = """
const seen = { errors: [] };
addEventListener("error", (event) => seen.errors.push(event.message));
const table = document.querySelector("table.data"), [before, after] = document.querySelectorAll(".tools");
table.getBoundingClientRect();  // the tools are there and the rows are laid out
seen.open = performance.now();
addEventListener("load", () => setTimeout(() => {
  const timed = (act) => {
    const start = performance.now();
    act();
    table.getBoundingClientRect();
    return performance.now() - start;
  };
  const shown = () => [...table.rows].slice(1).filter((row) => row.getClientRects().length).length;
  const [more, all] = after.querySelectorAll("button"), search = before.querySelector("input");
  const find = (text) => () => { search.value = text; search.dispatchEvent(new Event("input")); };
  seen.first = shown(); seen.said = after.querySelector("span").textContent;
  more.click(); seen.more = shown();
  seen.sort = [...table.tHead.rows[0].cells].map((head) => timed(() => head.querySelector("button").click()));
  const byName = table.tHead.rows[0].cells[0].querySelector("button");
  byName.click(); byName.click(); seen.last = table.rows[1].cells[0].textContent; seen.sorted = shown();
  seen.search = ["0", "last-one", "-last-one"].map((text) => timed(find(text)));
  find("last-one")(); seen.found = shown(); seen.told = before.querySelector("output").textContent;
  seen.nothingMore = !after.getClientRects().length;
  find("")(); all.click(); seen.all = shown(); find("")();
  dispatchEvent(new Event("beforeprint")); seen.printed = shown();
  dispatchEvent(new Event("afterprint")); seen.kept = shown();
  document.body.replaceChildren();
  document.body.dataset.seen = JSON.stringify(seen);
}));
"""


def seen_of(folder: Path, name: str, profile: Path) -> dict[str, Any]:
    with browser.serve(folder, PLAY) as address:
        done = browser.browse(f"{address}/{name}", profile, "--dump-dom", "--enable-logging=stderr", wait_ms=0)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line and "favicon" not in line]
    body = next(attributes for tag, attributes in Elements(done.stdout).tags if tag == "body")
    return json.loads(html.unescape(body["data-seen"] or ""))


def assert_plays(seen: dict[str, Any], *, first: int, rows: int) -> None:
    assert seen["errors"] == []
    assert (seen["first"], seen["more"]) == (first, min(2 * first, rows))
    assert seen["said"] == f"The first {first} of {rows} rows are shown."
    assert (seen["last"], seen["sorted"]) == ("zz/last-one", first), "a row that was not shown is sorted, too"
    assert (seen["found"], seen["told"], seen["nothingMore"]) == (1, f"1 of {rows} rows", True)
    assert (seen["all"], seen["printed"], seen["kept"]) == (rows, rows, first)


def test_a_reader_is_shown_the_first_rows_and_finds_sorts_and_prints_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "_FIRST_ROWS", 5)
    names = [f"toys/{number:02}" for number in range(11)] + ["zz/last-one"]
    facts = {"address": "a.html", "description": "", "suite": "toy", "started": "", "state": "ok"}
    pages = [{"title": name, **facts} for name in names]
    text = rendered("index.html", Head(title="Runs", description="", charts=False), pages=pages, unreadable={})
    save(text, tmp_path / "many.html")
    assert_plays(seen_of(tmp_path, "many.html", tmp_path), first=5, rows=12)


def test_a_page_without_scripts_has_all_rows_and_few_rows_are_one_body() -> None:
    facts = {"address": "a.html", "description": "", "suite": "toy", "started": "", "state": "ok", "title": "a"}
    for rows, bodies in ((200, 1), (201, 2)):
        page = rendered("index.html", Head(title="", description="", charts=False), pages=[facts] * rows, unreadable={})
        tags = [tag for tag, _ in Elements(page).tags]
        assert (tags.count("tbody"), tags.count("tr")) == (bodies, rows + 1)


@pytest.mark.thorough
def test_ten_thousand_rows_open_in_three_seconds_and_are_sorted_and_found_in_one(builders, tmp_path: Path) -> None:
    names = [*(f"toys/{number:04}" for number in range(9999)), "zz/last-one"]
    costs = ("adapter_parameters", "trainable_parameters", "train_tensor_peak", "infer_tensor_peak")
    rows = [
        row
        for place, name in enumerate(names)
        for row in builders.scored(
            name,
            [80.0 + place * 7919 % 1000 / 200 + seed for seed in (0.0, 0.3 * (place % 3), 0.7)],
            metrics={cost: 1.0 + place * 31 % (900 + offset) for offset, cost in enumerate(costs)},
            tuned={"lr": 0.1},
        )
    ]
    view = RunView.build(builders.make_run(builders.make_suite(baseline=names[0])), rows, builders.METRICS)
    path = write_page(view, tmp_path / "pages", tuple(rows))
    seen = seen_of(path.parent, path.name, tmp_path)
    assert_plays(seen, first=200, rows=10_000)
    assert seen["open"] < 3000
    assert max(seen["sort"]) < 1000
    assert max(seen["search"]) < 1000
