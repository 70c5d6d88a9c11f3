"""Techniques may be compared at an equal value of a metric, each with the reference of that value."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from harness.analysis import RunView
from harness.report.answer import answer
from harness.report.formats import render
from harness.report.page import render_page

SCHEMES = {
    "toys/base": (0.01, 16.0),
    "toys/four": (0.9, 4.5),
    "toys/wise": (0.8, 4.5),
    "toys/rash": (1.2, 4.502),
    "toys/eight": (0.1, 8.0),
    "toys/alone": (0.5, 5.0),
    "toys/waste": (0.95, 6.0),
}
"""The loss and the number of parameters of each technique."""


def a_view(builders: ModuleType, schemes: Mapping[str, tuple[float, float]] = SCHEMES) -> RunView:
    suite = builders.make_suite(
        tuning={}, metrics=("loss", "adapter_parameters"), costs=(),
        margins={"loss": 0.02, "adapter_parameters": 0.01},
        equal="adapter_parameters", references=("toys/four", "toys/eight", "toys/none"),
    )  # fmt: skip
    rows = [
        builders.make_row(
            technique=name,
            seed=seed,
            metrics={"loss": loss + ((seed + 1) * (number + 3) ** 2 % 11 - 5) / 1000, "adapter_parameters": size},
        )
        for number, (name, (loss, size)) in enumerate(schemes.items())
        for seed in range(5)
    ]
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


def test_each_is_compared_with_the_reference_of_its_value_and_stands_beside_it(builders: ModuleType) -> None:
    (workload,) = a_view(builders).workloads
    assert [(own.technique, own.verdict, own.against) for own in workload.techniques] == [
        ("toys/wise", "better", "toys/four"),
        ("toys/four", "reference", ""),
        ("toys/rash", "worse", "toys/four"),
        ("toys/alone", "front", ""),
        ("toys/waste", "behind", ""),
        ("toys/eight", "reference", ""),
        ("toys/base", "baseline", ""),
    ]


def test_the_front_is_that_of_the_judged_metric_and_the_equal_one(builders: ModuleType) -> None:
    (workload,) = a_view(builders).workloads
    assert workload.cost == "adapter_parameters"
    front = {own.technique for own in workload.techniques if own.pareto}
    assert front == {"toys/wise", "toys/alone", "toys/eight", "toys/base"}


def test_without_its_reference_a_technique_has_a_place_and_no_verdict(builders: ModuleType) -> None:
    view = a_view(builders, {name: values for name, values in SCHEMES.items() if name != "toys/four"})
    places = {own.technique: own.verdict for own in view.workloads[0].techniques}
    assert places["toys/wise"] == "front"
    assert places["toys/rash"] == "behind"
    (note,) = (line for line in render(view, "table", width=200).splitlines() if line.startswith("references without"))
    assert note.endswith(": toys/four, toys/none")


def test_the_answer_names_the_best_at_the_first_reference_s_value_and_its_lead(builders: ModuleType) -> None:
    view = a_view(builders, {**SCHEMES, "toys/nine": (0.05, 8.0)})
    first, second = answer(view, view.workloads[0])
    assert first.startswith("at 4.50 adapter_parameters toys/wise has the lowest loss, 0.79")
    assert " from the next, toys/four · 2 better, 1 worse, 2 reference, 1 front, 1 behind" in first
    assert second == "lowest also: toys/nine at 8.00"


def test_the_pairs_are_said_below_the_table_and_the_page_has_them(builders: ModuleType) -> None:
    view = a_view(builders)
    pairs = "compared with toys/four, at 4.50 adapter_parameters: toys/wise, toys/rash"
    table = render(view, "table", width=100)
    assert pairs in table
    assert "vs reference" in table
    assert pairs in render_page(view)
    assert "Differences to the reference of equal adapter parameters" in render_page(view)


def test_one_that_is_identical_to_its_reference_is_not_said_to_do_nothing(builders: ModuleType) -> None:
    rows = ("toys/base", "toys/four", "toys/wise")
    view = a_view(builders, {name: SCHEMES[name] for name in rows})
    twin = RunView.build(
        view.info,
        [
            builders.make_row(technique=name, seed=seed, metrics={"loss": 1.0 + seed, "adapter_parameters": 4.5})
            for name in rows
            for seed in range(3)
        ],
        builders.METRICS,
    )
    table = render(twin, "table", width=100)
    assert "the same loss as toys/four on every seed: toys/wise" in table
    assert "did nothing" not in table
