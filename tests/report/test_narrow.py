"""On a narrow terminal the columns that answer a suite's question stay, and no row of the table is wider than it."""

from __future__ import annotations

from types import ModuleType

import pytest

from harness.analysis import RunView
from harness.report import table
from harness.report.columns import Column
from harness.report.formats import render
from harness.report.page import render_page
from harness.report.table import _folded, _laid_out, _names


def a_view(builders: ModuleType, **stated: object) -> RunView:
    """Return the view of two techniques with long names and seven metrics."""
    names = ("toys/a-baseline-with-a-long-name", "toys/another-one:parameter=0.125")
    metrics = ("accuracy", "loss", "val_loss", "checkpoint_bytes", "adapter_parameters", "trainable_parameters")
    suite = builders.make_suite(tuning={}, costs=(), baseline=names[0], metrics=metrics, **stated)
    rows = [
        builders.make_row(
            technique=name,
            seed=seed,
            metrics={metric: 0.5 + number + seed**2 % 5 * (place + 1) / 100 for place, metric in enumerate(metrics)},
        )
        for number, name in enumerate(names)
        for seed in range(5)
    ]  # fmt: skip
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


def test_what_a_suite_wants_unchanged_stays_where_other_columns_do_not_fit(builders: ModuleType) -> None:
    text = render(a_view(builders, unchanged=("val_loss",)), "table", width=80)
    titles = next(line for line in text.splitlines() if line.startswith("technique"))
    assert titles.split() == ["technique", "accuracy", "vs", "baseline", "val_loss", "verdict"]
    assert "4 more columns do not fit" in text


def test_what_is_asked_beside_the_verdict_stays_before_intervals_and_other_columns_do(builders: ModuleType) -> None:
    text = render(a_view(builders, beside=("val_loss",)), "table", width=76)
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("technique"))
    titles, _, first = lines[start : start + 3]
    assert titles.split() == ["technique", "accuracy", "vs", "baseline", "val_loss", "verdict"]
    assert first.split()[:2] == ["another-one:parameter=0.125", "1.5"]


def test_what_is_asked_beside_is_in_every_format(builders: ModuleType) -> None:
    view = a_view(builders, beside=("val_loss",))
    assert "val_loss" in render(view, "github")
    assert '<th scope="col">val_loss' in render_page(view)


def test_names_go_without_the_plugin_that_all_share_and_stay_apart() -> None:
    names = [f"toys/a-long-name-in-many-parts:rate={rate},depth=4,width=128" for rate in (1, 2)]
    shown = _names(names, 20, own=True)
    assert list(shown.values()) == [name.removeprefix("toys/") for name in names]
    assert _names([*names, "other/one"], 32, own=True)["other/one"] == "other/one"


@pytest.mark.parametrize("width", [68, 80, 100, 140])
def test_no_line_of_a_table_is_wider_than_the_terminal(builders: ModuleType, width: int) -> None:
    assert max(map(len, render(a_view(builders), "table", width=width).splitlines())) <= width


def test_a_wide_terminal_has_the_baseline_s_name_and_all_columns(builders: ModuleType) -> None:
    text = render(a_view(builders), "table", width=300)
    assert "vs toys/a-baseline-with-a-long-name" in text
    assert "more columns" not in text
    assert "not shown" not in text


def test_a_title_that_is_wider_than_its_cells_has_several_lines_where_the_table_has_no_room(
    builders: ModuleType,
) -> None:
    suite = builders.make_suite(tuning={})
    view = RunView.build(builders.make_run(suite), builders.scored("toys/base", [90.0, 91.0]), builders.METRICS)
    workload = view.workloads[0]
    column = Column(title="a_long_title_of", unit="%", cell=lambda _: "12345678")
    folded = _folded(workload, column)
    assert folded.title.split("\n") == ["a_long_", "title_of"]
    assert folded.heading == column.heading
    assert _folded(workload, folded) == folded
    lines = [line.split() for line in _laid_out(workload, [folded], color=False).splitlines()]
    assert lines[:3] == [["a_long_"], ["title_of", "verdict"], ["%"]]


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("width", [60, 76, 90, 300])
def test_a_table_is_laid_out_as_tabulate_does(
    builders: ModuleType, full_view: RunView, monkeypatch: pytest.MonkeyPatch, width: int, color: bool
) -> None:
    views = (full_view, a_view(builders, beside=("val_loss",)))
    own = [render(view, "table", width=width, color=color) for view in views]
    monkeypatch.setattr(table, "_narrow", lambda *_: None)
    assert own == [render(view, "table", width=width, color=color) for view in views]


def test_titles_have_one_line_where_the_table_has_room(builders: ModuleType) -> None:
    view = a_view(builders, beside=("val_loss", "checkpoint_bytes"))
    for width, above in ((300, []), (82, ["checkpoint_"])):
        lines = render(view, "table", width=width).splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("technique"))
        assert [word for word in lines[start - 1].split() if word == "checkpoint_"] == above


def test_speeds_and_their_marks_are_explained_only_where_they_are_shown(builders: ModuleType) -> None:
    turns = [[0.1 * (1 + (number + shift) % 5) for number in range(12)] for shift in (0, 2)]
    names = [f"toys/a-name-that-takes-much-room-{number}" for number in range(2)]
    suite = builders.make_suite(baseline=names[0], tuning={})
    rows = [row for name in names for row in builders.scored(name, [90.0, 91.0, 92.5])]
    view = RunView.build(builders.make_run(suite), [*rows, builders.timed(names[1], *turns)], builders.METRICS)
    for width, shown in ((160, True), (70, False)):
        text = render(view, "table", width=width)
        assert ("train/s" in text.split("verdict")[0]) == shown
        assert ("x samples a second" in text) == ("~ unstable" in text) == shown


def test_a_run_that_asked_for_times_alone_is_not_judged_and_not_called_unfinished(builders: ModuleType) -> None:
    turns = [[0.1, 0.11, 0.1], [0.05, 0.05, 0.06]]
    view = RunView.build(
        builders.make_run(builders.make_suite(tuning={})),
        [builders.timed("toys/base", turns[0], turns[0]), builders.timed("toys/a", *turns)],
        builders.METRICS,
    )
    text = render(view, "table", width=100)
    assert "accuracy was not measured in this run, so that nothing is judged: add --lane accuracy" in text
    assert [line.split()[-2:] for line in text.splitlines() if line.startswith("toys/")] == [["not", "judged"]] * 2
    for wrong in ("unfinished", "no result", "vs toys/base", "0 seeds"):
        assert wrong not in text.replace("unfinished: 2 of", "")
    assert "not judged" in render_page(view)


def test_comparisons_that_are_corrected_together_are_told_as_a_range(builders: ModuleType) -> None:
    workloads = tuple(f"core/{name}" for name in ("alpha", "beta", "gamma"))
    suite = builders.make_suite(workloads=workloads, tuning={}, margins={})
    rows = [
        row
        for number, workload in enumerate(workloads, 1)
        for name in ["toys/base", *(f"toys/{letter}" for letter in "abc"[:number])]
        for row in builders.scored(name, [90.0 + 5 * len(name), 91.0, 92.5 - len(name)], workload=workload)
    ]
    text = render(RunView.build(builders.make_run(suite), rows, builders.METRICS), "table", width=120)
    assert "Holm's correction over 1 to 3 comparisons" in text


def test_what_is_to_stay_unchanged_is_not_told_twice_where_it_makes_the_verdicts(builders: ModuleType) -> None:
    suite = builders.make_suite(judge="train_throughput", unchanged=("accuracy",), tuning={})
    rows = [*builders.scored("toys/base", [90.0, 91.0, 92.0]), *builders.scored("toys/a", [94.0, 89.0, 95.0])]
    text = render(RunView.build(builders.make_run(suite), rows, builders.METRICS), "table", width=120)
    assert "verdicts are made by accuracy" in text
    assert "whether accuracy is unchanged" not in text
