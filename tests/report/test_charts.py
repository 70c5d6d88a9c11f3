"""The charts of a page: every point is a figure of the view, and Plotly knows every attribute."""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import pytest

from harness.analysis import RunView
from harness.report.charts import MOST, charts
from harness.report.drawing import COLOURS


@pytest.fixture
def drawn(full_view: RunView) -> dict[str, dict[str, Any]]:
    """The first drawing of each chart of the first workload, by the chart's title."""
    return {
        chart.title: json.loads(chart.plots[0].json)
        for chart in charts(full_view, full_view.workloads[0])
    }  # fmt: skip


def only(view: RunView, technique: str) -> Any:
    return next(row for row in view.workloads[0].techniques if row.technique == technique)


def named(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return next(trace for trace in figure["data"] if trace.get("name") == name)


def test_a_workload_has_a_chart_for_all_there_is_something_for(drawn) -> None:
    assert list(drawn) == [
        "Differences to toys/full",
        "Accuracy and train tensor peak",
        "Accuracy and train throughput",
        "Speed",
        "Train loss along training",
        "What tuning tried",
        "Inside the techniques",
    ]


def test_plotly_knows_every_attribute_of_every_drawing(full_view: RunView) -> None:
    from plotly import graph_objects as go

    for chart in charts(full_view, full_view.workloads[0]):
        for plot in chart.plots:
            figure = json.loads(plot.json)
            go.Figure(data=figure["data"], layout=figure["layout"])  # raises where it doesn't


def test_differences_are_those_of_the_view_with_their_intervals_seeds_and_margin(drawn, full_view: RunView) -> None:
    figure = drawn["Differences to toys/full"]
    difference = only(full_view, "toys/a").comparison.difference
    mark = named(figure, "better")
    assert mark["x"] == [pytest.approx(difference.value)]
    assert mark["error_x"]["array"] == [pytest.approx(difference.high - difference.value)]
    assert mark["error_x"]["arrayminus"] == [pytest.approx(difference.value - difference.low)]
    assert fmean(named(figure, "seeds")["x"]) == pytest.approx(difference.value)
    assert len(named(figure, "seeds")["x"]) == 5
    shape = next(shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect")
    margin = full_view.workloads[0].rule.margin
    assert (shape["x0"], shape["x1"]) == (-margin, margin)
    assert figure["layout"]["yaxis"]["ticktext"] == ["a"]


def test_without_a_baseline_the_quality_itself_is_drawn(builders) -> None:
    view = RunView.build(builders.make_run(), builders.scored("toys/a", [80.0, 82.0]), builders.METRICS)
    (chart,) = charts(view, view.workloads[0])
    assert chart.title == "Accuracy"
    figure = json.loads(chart.plots[0].json)
    assert named(figure, "undecided")["x"] == [81.0]
    assert sorted(named(figure, "seeds")["x"]) == [80.0, 82.0]


def test_quality_is_set_against_cost_with_the_pareto_front(drawn, full_view: RunView) -> None:
    figure = drawn["Accuracy and train tensor peak"]
    assert named(figure, "better")["x"] == [pytest.approx(7e6 / 2**20)]
    assert named(figure, "better")["y"] == [pytest.approx(only(full_view, "toys/a").quality.estimate.value)]
    front = named(figure, "Pareto front")
    assert front["x"] == sorted(front["x"])
    assert len(front["x"]) == sum(row.pareto for row in full_view.workloads[0].techniques)


def test_a_cost_of_nothing_has_a_place_on_a_logarithmic_axis(builders) -> None:
    rows = [
        row
        for name, size in (("toys/base", 0.0), ("toys/a", 10.0), ("toys/b", 5000.0))
        for row in builders.scored(name, [80.0, 81.0], metrics={"adapter_parameters": size})
    ]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    chart = next(chart for chart in charts(view, view.workloads[0]) if chart.title == "Accuracy and adapter parameters")
    figure = json.loads(chart.plots[0].json)
    axis = figure["layout"]["xaxis"]
    assert axis["type"] == "log"
    (place,) = named(figure, "baseline")["x"]
    assert 0 < place < 10
    labels = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    assert labels[place] == "0"
    assert labels[1000.0] == "1k"


def test_a_reader_chooses_among_the_suite_s_costs_and_what_else_takes_memory_or_time(builders) -> None:
    rows = [
        row
        for name, size in (("toys/base", 10.0), ("toys/a", 20.0))
        for row in (
            *builders.scored(
                name, [80.0, 81.0], metrics={"adapter_parameters": size, "trainable_parameters": size + 650}
            ),
            builders.make_row(technique=name, lane="memory", metrics={"train_tensor_peak": 2**20 * size}),
        )
    ]

    def drawn_with(*costs: str) -> tuple[str, list[str]]:
        view = RunView.build(builders.make_run(builders.make_suite(costs=costs)), rows, builders.METRICS)
        (chart,) = [chart for chart in charts(view, view.workloads[0]) if chart.title.startswith("Accuracy and")]
        return chart.title, [plot.caption for plot in chart.plots]

    first, second = "adapter_parameters", "trainable_parameters"
    names = ["adapter parameters", "trainable parameters", "train tensor peak"]
    assert drawn_with(first, second) == ("Accuracy and cost", names)
    assert drawn_with("infer_tensor_peak", second) == ("Accuracy and cost", names[1:])
    assert drawn_with() == ("Accuracy and train tensor peak", [""])


def test_each_cost_has_a_front_of_its_own(builders) -> None:
    sizes = {
        "toys/base": (10.0, 300.0),
        "toys/a": (30.0, 100.0),
    }  # the better one is dearer in one, cheaper in the other
    rows = [
        row
        for name, (small, large) in sizes.items()
        for row in builders.scored(
            name, [80.0 + small, 81.0 + small], metrics={"adapter_parameters": small, "trainable_parameters": large}
        )
    ]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    (chart,) = [chart for chart in charts(view, view.workloads[0]) if chart.choose == "cost"]
    fronts = [named(json.loads(plot.json), "Pareto front")["x"] for plot in chart.plots]
    assert fronts == [[10.0, 30.0], [100.0]]


def test_of_very_many_techniques_the_best_the_baseline_and_the_front_are_drawn(builders) -> None:
    rows = [
        row
        for number in range(MOST + 20)
        for row in builders.scored(
            "toys/base" if number == 0 else f"toys/t{number}",
            [50.0 + number / 10, 50.1 + number / 10],
            metrics={"adapter_parameters": 5.0 if number == 1 else 10.0 + number % 7},
        )
    ]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    chart = next(chart for chart in charts(view, view.workloads[0]) if chart.title == "Accuracy and adapter parameters")
    drawn = sum(
        len(trace["x"]) for trace in json.loads(chart.plots[0].json)["data"] if trace.get("name") != "Pareto front"
    )
    assert drawn == MOST + 2, "the baseline and the cheapest are the two worst"
    assert chart.note.startswith(f"Of {MOST + 20} techniques the best {MOST}")


def test_speed_is_the_view_s_ratios_and_the_baseline_stands_at_one(drawn, full_view: RunView) -> None:
    ratio = only(full_view, "toys/a").ratios["train"]
    assert named(drawn["Speed"], "train")["x"] == [pytest.approx(ratio.value)]
    scatter = drawn["Accuracy and train throughput"]
    assert named(scatter, "better")["x"] == [pytest.approx(ratio.value)]
    assert named(scatter, "baseline")["x"] == [1.0]


def test_a_response_shows_means_seeds_the_choice_and_its_edge(full_view: RunView) -> None:
    chart = next(chart for chart in charts(full_view, full_view.workloads[0]) if chart.title == "What tuning tried")
    assert [plot.caption for plot in chart.plots] == ["a", "full"]
    assert chart.plots[0].detail == "lr 0.2 ^"
    seeds, means, chosen = json.loads(chart.plots[0].json)["data"]
    assert dict(zip(means["x"], means["y"], strict=True)) == pytest.approx({"0.1": 0.9, "0.2": 0.8})
    assert len(seeds["x"]) == 4
    assert (chosen["x"], chosen["y"]) == (["0.2"], [pytest.approx(0.8)])


def test_of_several_tuned_values_the_most_tried_runs_along_and_the_others_are_lines(builders) -> None:
    rows = [
        builders.make_row(
            technique="toys/base", stage="tuning", seed=seed, tuned={"rank": rank, "lr": lr},
            metrics={"val_loss": rank * lr, "accuracy": 80.0},
        )
        for rank in (1, 2) for lr in (0.1, 0.2, 0.3) for seed in (0, 1)
    ]  # fmt: skip
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    chart = next(chart for chart in charts(view, view.workloads[0]) if chart.small)
    figure = json.loads(chart.plots[0].json)
    assert figure["layout"]["xaxis"]["categoryarray"] == ["0.1", "0.2", "0.3"]
    lines = [trace["y"] for trace in figure["data"] if trace["mode"] == "lines+markers"]
    assert lines == [pytest.approx([0.1, 0.2, 0.3]), pytest.approx([0.2, 0.4, 0.6])]
    assert chart.plots[0].detail == "rank 1, lr 0.1 ^"


def test_curves_are_means_over_seeds_and_what_is_a_technique_s_own_stands_apart(drawn) -> None:
    figure = drawn["Train loss along training"]
    assert named(figure, "baseline")["y"] == pytest.approx([2.0, 1.5, 1.0])
    assert named(figure, "better")["y"] == pytest.approx([2.0, 1.0])
    assert drawn["Inside the techniques"]["data"][0]["y"] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("steps", [299, 300, 301, 5000])
def test_long_curves_are_thinned_from_the_first_to_the_last_point(builders, steps: int) -> None:
    curve = [1.0 / (step + 1) for step in range(steps)]
    rows = [
        builders.make_row(technique=name, metrics={"accuracy": 80.0}, series={"train_loss": curve})
        for name in ("toys/base", "toys/a")
    ]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    chart = next(chart for chart in charts(view, view.workloads[0]) if "training" in chart.title)
    trace = json.loads(chart.plots[0].json)["data"][0]
    assert len(trace["x"]) <= 302
    assert (trace["x"][0], trace["x"][-1]) == (1, steps)
    assert all(value == pytest.approx(curve[step - 1]) for step, value in zip(trace["x"], trace["y"], strict=True))


def test_a_number_that_is_none_leaves_a_gap(builders) -> None:
    rows = [
        builders.make_row(technique=name, metrics={"accuracy": 80.0}, series={"train_loss": [1.0, float("nan"), 0.5]})
        for name in ("toys/base", "toys/a")
    ]
    view = RunView.build(builders.make_run(), rows, builders.METRICS)
    chart = next(chart for chart in charts(view, view.workloads[0]) if "training" in chart.title)
    assert json.loads(chart.plots[0].json)["data"][0]["y"] == [1.0, None, 0.5]


@pytest.mark.parametrize("paper", ["#ffffff", "#14171b"])
def test_colours_can_be_seen_on_light_and_on_dark_pages(paper: str) -> None:
    for colour in COLOURS.values():
        light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    red, green, blue = channels(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def channels(colour: str) -> Iterator[float]:
    for start in (1, 3, 5):
        value = int(colour[start : start + 2], 16) / 255
        yield value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
