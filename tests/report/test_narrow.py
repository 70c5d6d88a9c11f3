"""On a narrow terminal the columns that answer a suite's question stay, and no row of the table is wider than it."""

from __future__ import annotations

from types import ModuleType

import pytest

from harness.analysis import RunView
from harness.report.formats import render
from harness.report.page import render_page
from harness.report.table import _names


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
    assert '<button type="button">val_loss' in render_page(view)


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
