"""Charts along a number: rates of phases that differ in one, quality of workloads that differ in one setting."""

from __future__ import annotations

import json

import pytest

from harness.analysis import RunView
from harness.api import Metric
from harness.report.charts import charts
from harness.report.crossover import across


def test_phases_that_differ_in_a_number_are_lines_and_say_who_is_first_where(builders) -> None:
    metrics = {
        **builders.METRICS,
        **{
            name: Metric(id=name, unit="samples/s", higher_is_better=True, summary="rate", lane="time")
            for name in ("linear1_throughput", "linear64_throughput")
        },
    }
    seconds = {"toys/base": (0.010, 0.0020), "toys/a": (0.005, 0.0040)}
    rows = [
        row
        for name, (one, many) in seconds.items()
        for row in (
            *builders.scored(name, [80.0, 81.0]),
            builders.make_row(
                technique=name,
                lane="time",
                metrics={"linear1_throughput": 1 / one, "linear64_throughput": 1 / many},
                samples={"linear1": [one] * 5, "linear64": [many] * 5},
            ),
        )
    ]
    view = RunView.build(builders.make_run(), rows, metrics)
    (chart,) = [chart for chart in charts(view, view.workloads[0]) if chart.title.startswith("Rate of linear")]
    figure = json.loads(chart.plots[0].json)
    lines = {trace["name"]: (trace["x"], trace["y"]) for trace in figure["data"]}
    assert {name: x for name, (x, _) in lines.items()} == {"base": [1.0, 64.0], "a": [1.0, 64.0]}
    rates = {name: [round(value) for value in y] for name, (_, y) in lines.items()}
    assert rates == {"base": [100, 500], "a": [200, 250]}
    assert chart.note.endswith("Best from 1 a; from 64 base.")


def test_a_series_by_place_is_a_chart_of_means_with_intervals_and_the_unit_of_its_metric(
    builders,
) -> None:
    curves = {"toys/base": ([90.0, 60.0], [80.0, 50.0, 40.0]), "toys/a": ([70.0, 30.0], [70.0, 50.0])}
    rows = [
        builders.make_row(
            technique=name,
            seed=seed,
            metrics={"accuracy": 80.0 + seed},
            series={"accuracy_by_place": curve, "x_by_place": curve, "x": curve},
        )
        for name, own in curves.items()
        for seed, curve in enumerate(own)
    ]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    found = {chart.title: chart for chart in charts(view, view.workloads[0])}
    assert "X along training" in found
    assert "Accuracy by place along training" not in found
    figure = json.loads(found["Accuracy by place"].plots[0].json)
    lines = {trace["name"]: trace for trace in figure["data"]}
    assert (lines["base"]["x"], lines["base"]["y"]) == ([1.0, 2.0, 3.0], [85.0, 55.0, 40.0])
    assert lines["a"]["y"] == [70.0, 40.0]
    # Student's t of two values that are 20 apart would reach 127 to each side, where a percentage cannot be
    assert (lines["a"]["error_y"]["array"][1], lines["a"]["error_y"]["arrayminus"][1]) == (60.0, 40.0)
    assert figure["layout"]["yaxis"]["title"]["text"] == "accuracy, %"
    assert figure["layout"]["xaxis"]["title"]["text"] == "place"
    plain = {trace["name"]: trace for trace in json.loads(found["X by place"].plots[0].json)["data"]}
    half = 12.706 * 10  # their standard deviation is 20 / sqrt(2)
    assert plain["a"]["error_y"]["array"][1] == pytest.approx(half, rel=1e-3)


def test_workloads_that_differ_in_one_number_are_points_of_a_line(builders) -> None:
    workloads = ("core/alpha:images=100", "core/alpha:images=1000")
    rows = [
        row
        for workload, images in zip(workloads, (100, 1000), strict=True)
        for name, shift in (("toys/base", 0.0), ("toys/a", 3.0))
        for row in builders.scored(
            name, [80.0 + shift, 82.0 + shift], workload=workload, settings={"images": images, "steps": 5}
        )
    ]
    view = RunView.build(builders.make_run(builders.make_suite(workloads=workloads)), rows, builders.METRICS)
    (chart,) = across(view)
    assert chart.title == "Accuracy by images"
    lines = {trace["name"]: (trace["x"], trace["y"]) for trace in json.loads(chart.plots[0].json)["data"]}
    assert lines == {"toys/base": ([100.0, 1000.0], [81.0, 81.0]), "toys/a": ([100.0, 1000.0], [84.0, 84.0])}


def test_workloads_that_differ_in_more_are_no_line(builders) -> None:
    workloads = ("core/alpha:a=1,b=1", "core/alpha:a=2,b=2")
    rows = [
        row
        for workload, number in zip(workloads, (1, 2), strict=True)
        for row in builders.scored("toys/base", [80.0], workload=workload, settings={"a": number, "b": number})
    ]
    view = RunView.build(builders.make_run(builders.make_suite(workloads=workloads)), rows, builders.METRICS)
    assert not list(across(view))
