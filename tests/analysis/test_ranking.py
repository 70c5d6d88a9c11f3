"""Where looks gave techniques unequal seeds, ranks are those of the differences to the baseline."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from harness.analysis import RunView
from harness.report.formats import render

LOOKS = (5, 10)
HARD, EASY = 80.0, 90.0
"""The baseline's accuracy on the first five seeds and on the next five."""


def looked_at(builders: ModuleType, workloads: tuple[str, ...]) -> RunView:
    """Return the view of a run in which the better technique was decided early, on seeds that are hard for all."""
    suite = builders.make_suite(workloads=workloads, tuning={}, looks=LOOKS)
    base = [HARD + noise for noise in (0.0, 0.3, -0.2, 0.1, -0.1)] + [EASY + noise for noise in (0.1, -0.3, 0.2, 0, 0)]
    noise = np.random.default_rng(0).normal(0, 0.3, 10)
    scores = {
        "toys/base": base,
        "toys/good": [score + 5 + e for score, e in zip(base[:5], noise, strict=False)],
        "toys/open": [score + 1 + 4 * e for score, e in zip(base, noise, strict=True)],
    }
    rows = [
        row
        for workload in workloads
        for name, values in scores.items()
        for row in builders.scored(name, values, workload=workload)
    ]
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


def test_over_all_workloads_ranks_are_taken_on_the_seeds_that_all_have_in_common(builders: ModuleType) -> None:
    view = looked_at(builders, ("core/alpha", "core/beta"))
    assert [entry.technique for entry in view.overall] == ["toys/good", "toys/open", "toys/base"]
    base = view.overall[-1].iqm.value
    for entry in view.overall[:-1]:
        assert entry.difference is not None
        assert entry.iqm.value - base == pytest.approx(entry.difference.value)
        assert entry.iqm.n == entry.difference.n == 2 * LOOKS[0]


def test_a_table_and_its_answer_rank_by_the_paired_differences(builders: ModuleType) -> None:
    view = looked_at(builders, ("core/alpha",))
    assert [summary.technique for summary in view.workloads[0].techniques] == ["toys/good", "toys/open", "toys/base"]
    text = render(view, "table")
    assert "highest accuracy of 3: toys/good" in text
    assert "sorted by differences" in text


def test_without_a_seed_in_common_nothing_is_ranked_over_all_workloads(builders: ModuleType) -> None:
    names = ("core/alpha", "core/beta")
    rows = [
        builders.make_row(technique=technique, seed=seed, workload=workload, metrics={"accuracy": 90.0 + seed})
        for workload in names
        for technique, seeds in (("toys/base", (0, 1)), ("toys/a", (2, 3)))
        for seed in seeds
    ]
    suite = builders.make_suite(workloads=names, tuning={})
    assert RunView.build(builders.make_run(suite), rows, builders.METRICS).overall == ()


def test_a_technique_that_equals_the_baseline_is_not_said_to_be_the_best(builders: ModuleType) -> None:
    base = [HARD + number for number in range(3)]
    scores = {"toys/base": base, "toys/alike": base, "toys/poor": [score - 9 for score in base]}
    rows = [row for name, values in scores.items() for row in builders.scored(name, values)]
    view = RunView.build(builders.make_run(builders.make_suite(tuning={})), rows, builders.METRICS)
    assert [own.technique for own in view.workloads[0].techniques] == [*scores]
    assert "highest accuracy of 3: toys/base, 81.0 ±2.5 %, the baseline; next toys/alike" in render(view, "table")
