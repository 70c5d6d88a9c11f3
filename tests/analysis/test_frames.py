"""A run as a typed table: the figures of the view, in types that a program can rely on."""

from __future__ import annotations

import sys

import pytest

from harness.analysis import RunView
from harness.analysis.frames import COLUMNS, records
from harness.api import UsageError


@pytest.fixture(scope="module")
def view(builders) -> RunView:
    rows = [
        *builders.scored("toys/base", [80.0, 81.0, 79.0], metrics={"adapter_parameters": 10.0}),
        *builders.scored("toys/a", [84.0, 85.5, 83.5]),
        builders.make_row(technique="toys/bad", status="error", reason="no luck"),
    ]
    return RunView.build(builders.make_run(), rows, builders.METRICS)


def of(view: RunView, technique: str):
    return next(own for own in view.workloads[0].techniques if own.technique == technique)


def test_each_metric_of_each_technique_has_its_interval_and_the_judged_one_its_verdict(view: RunView) -> None:
    table = view.to_arrow()
    found = {(row["technique"], row["metric"]): row for row in table.to_pylist()}
    assert set(found) == {("toys/base", "accuracy"), ("toys/base", "adapter_parameters"), ("toys/a", "accuracy")}
    row, summary = found["toys/a", "accuracy"], of(view, "toys/a")
    assert (row["value"], row["n"], row["unit"], row["verdict"]) == (pytest.approx(253 / 3), 3, "%", summary.verdict)
    assert row["low"] == summary.quality.estimate.low
    assert row["difference"] == pytest.approx(13 / 3)
    assert row["difference_high"] == summary.comparison.difference.high
    assert found["toys/base", "adapter_parameters"]["verdict"] is None
    assert (found["toys/base", "accuracy"]["baseline"], row["baseline"]) == (True, False)


def test_seeds_are_the_values_behind_the_estimates(view: RunView) -> None:
    rows = [row for row in view.to_arrow("seed").to_pylist() if row["technique"] == "toys/a"]
    assert {row["seed"]: row["value"] for row in rows} == {0: 84.0, 1: 85.5, 2: 83.5}


def test_both_libraries_have_the_same_columns_values_and_types_also_of_a_run_without_rows(
    view: RunView, builders
) -> None:
    pytest.importorskip("pandas")
    empty = RunView.build(builders.make_run(), [], builders.METRICS)
    for run in (view, empty):
        for by, columns in COLUMNS.items():
            table, frame = run.to_arrow(by), run.to_pandas(by)
            assert table.column_names == list(frame.columns) == list(columns)
            assert len(table) == len(frame) == len(list(records(run, by)))
            kinds = {"text": ("string", "string"), "truth": ("bool", "boolean")}
            kinds |= {"whole": ("int64", "Int64"), "number": ("double", "Float64")}
            for name, kind in columns.items():
                assert (str(table.schema.field(name).type), str(frame[name].dtype)) == kinds[kind], name
    plain = view.to_pandas().astype(object).where(view.to_pandas().notna(), None).to_dict("records")
    assert plain == view.to_arrow().to_pylist()


@pytest.mark.parametrize(("method", "module"), [("to_arrow", "pyarrow"), ("to_pandas", "pandas")])
def test_what_is_not_installed_is_one_clear_line(
    view: RunView, monkeypatch: pytest.MonkeyPatch, method: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"(?s){method} needs {module}.*pip install 'technique-harness\["):
        getattr(view, method)()


def test_another_kind_of_record_is_refused(view: RunView) -> None:
    with pytest.raises(UsageError, match="by = 'round': expected one of technique, seed"):
        view.to_arrow("round")
