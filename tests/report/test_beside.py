"""Several runs side by side: their values, what changed, and what is not judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report.beside import render_beside, write_beside, write_beside_file
from harness.results.store import StoredRun
from tests.report.elements import Elements


@pytest.fixture
def run(builders):
    """Return a stored run in which ``toys/a`` has these scores and this many parameters."""

    def make(number: int, shift: float, size: float = 100.0, **changes) -> StoredRun:
        rows = [
            *builders.scored("toys/base", [80.0, 80.5, 79.5, 80.2, 79.8]),
            *builders.scored(
                "toys/a", [score + shift for score in (81.0, 81.6, 80.4, 81.2, 80.8)],
                metrics={"adapter_parameters": size},
            ),
        ]  # fmt: skip
        info = builders.make_run(**{"id": f"2026010{number}-000000-000{number}", **changes})
        return StoredRun(info=info, rows=tuple(rows))

    return make


def lines(text: str) -> dict[tuple[str, str], dict[str, str]]:
    rows = next(table for table in Elements(text).tables if "metric" in table[0])
    return {(row[0], row[1]): dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


def test_each_run_is_a_column_and_each_but_the_first_has_a_change_and_a_verdict(run, builders) -> None:
    text = render_beside([run(1, 0.0), run(2, 5.0, size=200.0), run(3, 0.0)], builders.METRICS)
    table = lines(text)
    accuracy = table["toys/a", "accuracy (%)"]
    assert [accuracy[label].split()[0] for label in ("0001", "0002", "0003")] == ["81.0", "86.0", "81.0"]
    assert accuracy["change to 0002"].startswith("+5.0 points")
    assert (accuracy["verdict on 0002"], accuracy["verdict on 0003"]) == ("better", "same")
    size = table["toys/a", "adapter (parameters)"]
    assert (size["0001"], size["0002"], size["change to 0002"], size["verdict on 0002"]) == (
        "100", "200", "+100.0 %", "worse",
    )  # fmt: skip
    assert len(Elements(text).charts) == 1


def test_runs_of_unlike_machines_are_shown_and_not_judged(run, builders) -> None:
    other = run(2, 5.0, environment={"threads": 1, "cpu": {"model": "<b>Other</b>"}})
    text = render_beside([run(1, 0.0), other], builders.METRICS)
    accuracy = lines(text)["toys/a", "accuracy (%)"]
    assert accuracy["0002"].startswith("86.0")
    assert not {"change to 0002", "verdict on 0002"} & accuracy.keys(), "above the table stands why"
    assert "cpu: none and &lt;b&gt;Other&lt;/b&gt;" in text
    assert "<b>Other" not in text


def test_a_run_stands_under_its_name_and_two_of_a_name_under_their_ids(run, builders) -> None:
    text = render_beside([run(1, 0.0, name="good-one"), run(2, 1.0)], builders.METRICS)
    assert "good-one (the first)" in text
    alike = [run(1, 0.0, name="twin"), run(2, 1.0, name="twin")]
    assert "20260102-000000-0002" in lines(render_beside(alike, builders.METRICS))["toys/a", "accuracy (%)"]


def test_a_technique_that_began_to_fail_is_told_with_its_reason(run, builders) -> None:
    other = run(2, 0.0)
    rows = tuple(row for row in other.rows if row.case.technique != "toys/a")
    failed = [builders.make_row(technique="toys/a", seed=seed, status="oom", reason="3 GiB") for seed in range(5)]
    text = render_beside([run(1, 0.0), StoredRun(info=other.info, rows=(*rows, *failed))], builders.METRICS)
    accuracy = lines(text)["toys/a", "accuracy (%)"]
    assert accuracy["0002"] == ""
    assert accuracy["verdict on 0002"] == "worse"
    assert "3 GiB" in accuracy["change to 0002"]


def test_the_page_lies_among_the_others_or_is_one_file(run, builders, tmp_path: Path) -> None:
    stored = [run(1, 0.0), run(2, 1.0)]
    path = write_beside(stored, tmp_path / "pages", builders.METRICS)
    assert path.name == "20260101-000000-0001-and-0002.html"
    assert "2 runs side by side" in (path.parent / "index.html").read_text()
    write_beside_file(stored, tmp_path / "one.html", builders.METRICS)
    assert (tmp_path / "one.html").stat().st_size > 4_000_000
