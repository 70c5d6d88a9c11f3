"""Rows of two versions of the code never share a table, and a table says which states computed its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from harness.analysis import RunView
from harness.analysis.states import of_one_identity, remarks_on
from harness.api import Row
from harness.report import render

TORCH = {"packages": {"torch": "2.13.0", "safetensors": "0.7"}, "python": "3.14.0"}


def rows_of(builders, technique: str, scores: list[float], environment: Mapping = TORCH, **changes) -> list[Row]:
    return [replace(row, environment=environment) for row in builders.scored(technique, scores, **changes)]


def test_rows_of_one_version_are_all_kept_without_a_word(builders) -> None:
    rows = [*rows_of(builders, "toys/base", [1.0, 2.0]), *rows_of(builders, "toys/a", [3.0], code="another")]
    assert of_one_identity(rows).rows == tuple(rows)
    assert remarks_on(rows) == ()
    assert (of_one_identity([]).rows, remarks_on([])) == ((), ())


def test_of_two_versions_of_equal_size_the_later_one_is_shown(builders) -> None:
    old, new = (
        rows_of(builders, "toys/a", scores, code=code) for scores, code in ([[1.0, 2.0], "x"], [[3.0, 4.0], "y"])
    )
    assert of_one_identity([*old, *new]).rows == tuple(new)
    assert of_one_identity([*new, *old]).rows == tuple(old)
    (line,) = remarks_on([*old, *new])
    assert line.startswith("2 of 4 rows are left out")


def test_a_resume_that_was_interrupted_does_not_mix_techniques_of_two_versions(builders) -> None:
    names = ("toys/base", "toys/a", "toys/b")
    old = [row for name in names for row in rows_of(builders, name, [1.0, 2.0], code=f"old {name}")]
    new = [row for name in names[:2] for row in rows_of(builders, name, [3.0, 4.0], code=f"new {name}")]
    assert of_one_identity([*old, *new]).rows == tuple(old)
    more = rows_of(builders, "toys/b", [3.0, 4.0], code="new toys/b")
    assert of_one_identity([*old, *new, *more]).rows == (*new, *more)


def test_going_back_to_the_first_version_goes_on_with_its_rows(builders) -> None:
    first = rows_of(builders, "toys/a", [1.0, 2.0, 3.0], code="x")
    other = rows_of(builders, "toys/a", [7.0], code="y")
    assert of_one_identity([*first[:2], *other, first[2]]).rows == tuple(first)


def test_a_key_that_changed_with_the_packages_tells_two_versions_apart_whatever_the_environment_says(builders) -> None:
    old = rows_of(builders, "toys/a", [1.0, 2.0])
    new = [
        replace(row, case=replace(row.case, key=f"new {row.case.key}"))
        for row in rows_of(builders, "toys/a", [3.0, 4.0])
    ]
    assert of_one_identity([*old, *new]).rows == tuple(new)
    assert "the code or settings of its cases" in of_one_identity([*old, *new]).left_out


def test_techniques_under_two_versions_of_torch_are_not_compared(builders) -> None:
    other = {**TORCH, "packages": {"torch": "9.9.9", "safetensors": "0.7"}}
    rows = [*rows_of(builders, "toys/base", [1.0, 2.0]), *rows_of(builders, "toys/a", [3.0], other)]
    kept = of_one_identity(rows)
    assert kept.rows == tuple(rows[:2])
    assert "torch 2.13.0 and 9.9.9" in kept.left_out


@pytest.mark.parametrize("format_", ["table", "json"])
def test_a_table_says_that_two_states_computed_its_rows(builders, format_: str) -> None:
    other = {**TORCH, "packages": {"torch": "2.13.0", "safetensors": "0.8"}, "threads": {"OMP_NUM_THREADS": "3"}}
    rows = [*rows_of(builders, "toys/base", [1.0, 2.0]), *rows_of(builders, "toys/a", [3.0], other)]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    assert view.rows == 3
    text = render(view, format_, width=1000)
    assert "computed in 2 states (2 and 1 rows)" in text
    assert "safetensors 0.7 and 0.8" in text
    assert "threads none and OMP_NUM_THREADS=3" in text


def test_what_only_a_plugin_tells_of_the_surroundings_makes_no_state(builders) -> None:
    rows = [rows_of(builders, "toys/a", [1.0], {**TORCH, "room": {"celsius": warmth}})[0] for warmth in (20, 21)]
    assert remarks_on(rows) == ()


def test_a_table_of_two_versions_says_what_it_leaves_out(builders) -> None:
    rows = [
        row
        for code, gain in (("x", 1.0), ("y", 2.0))
        for name, score in (("toys/base", 80.0), ("toys/a", 90.0))
        for row in rows_of(builders, name, [score + gain, score + gain + 1.0], code=code)
    ]
    view = RunView.build(builders.make_run(planned=4), rows, builders.METRICS)
    assert view.rows == 4
    assert view.workloads[0].techniques[0].quality.values == {0: 92.0, 1: 93.0}
    assert "4 of 8 rows are left out" in render(view, "table", width=1000)


def of_code(commit: str, digest: str, **packages: str) -> dict[str, object]:
    code = {"harness_mine": {"commit": commit, "digest": digest}}
    return {**TORCH, "packages": TORCH["packages"] | packages, "code": code}


def test_another_commit_of_the_same_code_is_no_other_state_nor_is_a_plugin_that_came_meanwhile(builders) -> None:
    before, after = of_code("1" * 40, "d" * 64), of_code("2" * 40, "d" * 64, another="1.0")
    after["code"]["harness_another"] = {"commit": None, "digest": "e" * 64}
    after["requirements"] = {"another": {"harness-mine": "1.0"}}
    rows = [*rows_of(builders, "toys/base", [1.0], before), *rows_of(builders, "toys/a", [2.0], after)]
    assert remarks_on(rows) == ()


def test_other_code_is_told_with_its_commits(builders) -> None:
    before, after = of_code("1" * 40, "d" * 64), of_code("2" * 40, "e" * 64)
    rows = [*rows_of(builders, "toys/base", [1.0], before), *rows_of(builders, "toys/a", [2.0], after)]
    (line,) = remarks_on(rows)
    assert line.endswith("the code of harness_mine 111111111 (dddddddd) and 222222222 (eeeeeeee)")
