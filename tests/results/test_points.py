"""A run is condensed into points, which the index keeps, and what the gate found of times is kept beside the runs."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.tuning import select_best
from harness.api import Row
from harness.results.comparisons import COMPARISONS, Compared, TimeFound, comparisons, keep
from harness.results.index import Index
from harness.results.points import Point, machine_of, points_of
from harness.results.schema import flat_of
from harness.results.store import Store


def points(builders, rows: Sequence[Row], **changes: Any) -> list[Point]:
    return points_of([*map(flat_of, rows)], builders.make_run(**changes))


def test_a_point_is_the_mean_over_the_seeds_that_count(builders) -> None:
    rows = [
        *builders.scored("toys/a", [90.0, 91.0, math.nan]),
        *builders.scored("toys/a", [10.0], stage="tuning", tuned={"lr": 0.1}),
        *builders.scored("toys/a", [20.0], perturbed=True),
        *builders.scored("toys/a", [30.0], status="error"),
    ]
    (point,) = points(builders, rows)
    assert (point.value, point.seeds, point.lane, point.low) == (90.5, {0: 90.0, 1: 91.0}, "accuracy", None)


def test_the_seeds_of_a_tuning_count_for_the_trial_that_was_chosen(builders) -> None:
    tuned, other = {"lr": 0.1}, {"lr": 0.2}
    rows = [
        *builders.scored("toys/a", [90.0], stage="tuning", tuned=tuned),
        *builders.scored("toys/a", [10.0], stage="tuning", tuned=other),
        *[replace(row, case=replace(row.case, seed=1)) for row in builders.scored("toys/a", [80.0], tuned=tuned)],
        *builders.scored("toys/b", [50.0], stage="tuning", tuned=tuned),
    ]
    (point,) = points(builders, rows)
    assert (point.technique, point.value, point.seeds) == ("toys/a", 85.0, {0: 90.0, 1: 80.0})


@pytest.mark.parametrize("metric", ["val_loss", "accuracy"])
def test_where_all_seeds_tune_the_chosen_trial_is_that_of_the_table(builders, metric) -> None:
    """As in a run of one seed and of quality alone: no later rows tell which trial was chosen."""
    draw = random.Random(0)
    suite = builders.make_suite(seeds=(0, 1), select=metric)
    declared = {"metrics": [asdict(builders.METRICS[metric])]}
    several = 0
    for _ in range(60):
        rows = [
            builders.make_row(
                technique="toys/a", seed=seed, stage="tuning", tuned={"lr": rate},
                status=draw.choice(["ok", "ok", "error"]),
                metrics={metric: draw.choice([0.5, 0.7, math.nan, 1.5e308]), "loss": rate},
            )
            for rate in (1.0, 0.01, 0.1) for seed in (0, 1)
        ]  # fmt: skip
        choice = select_best(rows, suite, "toys/a", "core/alpha", builders.METRICS[metric])
        found = [point for point in points(builders, rows, suite=suite, plugins=(declared,)) if point.metric == "loss"]
        assert [point.value for point in found] == ([choice.tuned["lr"]] if choice else [])
        several += choice is not None and sum(point.mean is not None for point in choice.points) > 1
        assert points(builders, rows, suite=suite, plugins=(declared,), finished=None) == []
    assert several > 20


def test_values_that_diverged_have_no_point(builders) -> None:
    values = [1.7e308, -1.7e308, math.inf, math.nan, 1e300, -1.01e300]
    (point,) = points(builders, builders.scored("toys/a", values))
    assert (point.value, point.seeds) == (1e300, {4: 1e300})
    assert points(builders, builders.scored("toys/a", [1.7e308, 1.6e308])) == []


def test_equal_values_have_exactly_their_mean(builders) -> None:
    rows = builders.scored("toys/a", [0.1] * 3)
    assert points(builders, rows)[0].value == 0.1


def test_times_are_kept_as_ratios_only(builders) -> None:
    row = builders.timed("toys/a", [0.1, 0.2, 0.4], [0.2, 0.2, 0.4])
    (point,) = points(builders, [row])
    assert (point.metric, point.value, point.low, point.high) == ("train_ratio", 1.0, 1.0, 2.0)
    alone = builders.timed("toys/a", [], [0.2, 0.2])
    odd = builders.timed("toys/a", [0.2, 0.0], [0.2, 0.2])
    assert points(builders, [alone, odd]) == []


@pytest.mark.parametrize(
    ("environment", "device", "machine"),
    [
        ({"cpu": {"model": "A Chip"}, "cores": 2}, "cpu", "A Chip, 2 cores"),
        ({"cpu": {"model": "A Chip"}, "gpu": [{"name": "A Card"}]}, "cuda", "A Card"),
        ({"cpu": {"model": "A Chip"}, "gpu": [{"name": "A Card"}]}, "cpu", "A Chip"),
        ({"cpu": "odd", "gpu": "odd"}, "cuda", "unknown processor"),
    ],
)
def test_a_machine_is_named_by_what_computes(environment: dict, device: str, machine: str) -> None:
    assert machine_of(environment, device) == machine


def test_the_index_gives_the_points_of_a_run_with_its_facts(tmp_path: Path, builders) -> None:
    store = Store(tmp_path)
    environment = {"cpu": {"model": "A Chip"}, "code": {"toys": {"commit": "c0ffee", "dirty": False}}}
    with store.create_run(
        suite=builders.make_suite(), selection={"device": "cpu"}, plugins=(), environment=environment, planned=2
    ) as writer:
        for row in [*builders.scored("toys/a", [90.0, 91.0]), builders.timed("toys/a", [0.1] * 3, [0.2] * 3)]:
            writer.append(row)
        writer.finish(0)
    found = {point.metric: (run, point) for run, point in Index(store).points(lambda name: name != "accuracy")}
    assert [*found] == ["train_ratio"]
    run, point = found["train_ratio"]
    assert (run.id, run.suite, run.machine, run.baseline) == (writer.info.id, "toy", "A Chip", "toys/base")
    assert run.code["toys"]["commit"] == "c0ffee"
    assert run.margins == {"accuracy": 1.0}
    assert (point.technique, point.value) == ("toys/a", 2.0)
    (other,) = (point for _, point in Index(store).points(lambda name: name == "accuracy"))
    assert other.seeds == {0: 90.0, 1: 91.0}


COMPARED = Compared(
    base="a" * 40,
    head="b" * 40,
    times=(TimeFound(suite="toy", workload="core/alpha", technique="toys/a", metric="train_ratio", verdict="worse"),),
)


def test_a_comparison_is_kept_in_a_store_that_git_ignores(tmp_path: Path) -> None:
    store = tmp_path / "store"
    keep(store, COMPARED)
    keep(store, COMPARED)
    assert [*comparisons(store)] == [COMPARED]
    assert (store / ".gitignore").read_text() == "*\n"
    assert len([*(store / COMPARISONS).iterdir()]) == 1
    assert [*comparisons(tmp_path / "none")] == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "base": "a", "head": "b", "times": 3}']
)
def test_a_damaged_comparison_is_left_out(tmp_path: Path, text: str) -> None:
    keep(tmp_path, COMPARED)
    (tmp_path / COMPARISONS / "a.json").write_text(text)
    (tmp_path / COMPARISONS / "c.json").write_text(json.dumps({"schema": 1, "base": "x"}))
    assert [*comparisons(tmp_path)] == [COMPARED]
