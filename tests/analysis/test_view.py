from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis import RunView
from harness.api import UsageError
from harness.results.schema import metric_to_json

BASE = [90.0, 91.5, 89.0, 92.0, 90.5]


def view_of(builders, rows, suite=None, **changes) -> RunView:
    return RunView.build(builders.make_run(suite or builders.make_suite(), **changes), rows, builders.METRICS)


def summary(view: RunView, technique: str, workload: int = 0):
    return next(one for one in view.workloads[workload].techniques if one.technique == technique)


def baseline(builders, **changes):
    return builders.scored("toys/base", BASE, **changes)


def tuned(builders, technique, by_lr, seeds=5, **changes):
    """All seeds at each learning rate, the first two of stage tuning: {lr: (validation loss, accuracies)}."""
    return [
        builders.make_row(
            technique=technique,
            tuned={"lr": lr},
            seed=seed,
            stage="tuning" if seed < 2 else "final",
            metrics={"val_loss": val_loss, "accuracy": accuracies[seed]},
            **changes,
        )
        for lr, (val_loss, accuracies) in by_lr.items()
        for seed in range(seeds)
    ]


def test_techniques_are_sorted_by_quality_and_those_without_one_come_last(builders) -> None:
    rows = [
        *baseline(builders),
        *builders.scored("toys/a", [95.0] * 5),
        *builders.scored("toys/b", [80.0] * 5),
        builders.make_row(technique="toys/0", status="crash", reason="signal 11"),
    ]
    names = [one.technique for one in view_of(builders, rows).workloads[0].techniques]
    assert names == ["toys/a", "toys/base", "toys/b", "toys/0"]


def test_a_quality_where_lower_is_better_sorts_the_other_way_round(builders) -> None:
    rows = [
        builders.make_row(technique=name, seed=seed, metrics={"loss": value, "adapter_parameters": 1})
        for name, value in (("toys/base", 0.5), ("toys/a", 0.2), ("toys/b", 0.9))
        for seed in range(2)
    ]
    view = view_of(builders, rows, builders.make_suite(metrics=("loss",)))
    assert [one.technique for one in view.workloads[0].techniques] == ["toys/a", "toys/base", "toys/b"]
    assert [one.technique for one in view.workloads[0].techniques if one.pareto] == ["toys/a"]


def test_every_seed_is_kept_and_compared_in_pairs(builders) -> None:
    own = [score + gain for score, gain in zip(BASE, (3.0, 3.2, 2.9, 3.1, 3.3), strict=True)]
    view = view_of(builders, [*baseline(builders), *reversed(builders.scored("toys/a", own))])
    found = summary(view, "toys/a")
    assert list(found.quality.values.values()) == own
    assert found.quality.estimate.value == pytest.approx(np.mean(own))
    assert found.comparison.difference.value == pytest.approx(3.1)
    assert (found.verdict, summary(view, "toys/base").verdict) == ("better", "baseline")
    assert summary(view, "toys/base").comparison is None


def test_only_the_chosen_trial_counts(builders) -> None:
    rows = [
        *baseline(builders),
        *tuned(builders, "toys/a", {0.01: (0.9, [99.0] * 5), 0.1: (0.2, [85.0] * 5), 1.0: (0.8, [97.0] * 5)}),
        builders.make_row(technique="toys/a", lane="memory", tuned={"lr": 0.1}, metrics={"train_tensor_peak": 7.0}),
        builders.make_row(technique="toys/a", lane="memory", tuned={"lr": 1.0}, metrics={"train_tensor_peak": 9.0}),
    ]
    found = summary(view_of(builders, rows), "toys/a")
    assert found.tuning.tuned == {"lr": 0.1}
    assert found.quality.estimate.value == 85.0
    assert found.figures["train_tensor_peak"].estimate.value == 7.0
    assert found.figures["train_tensor_peak"].estimate.low is None


@given(st.lists(st.floats(0, 100), min_size=10, max_size=10))
@settings(max_examples=20)
def test_test_results_of_other_trials_change_nothing(builders, others: list[float]) -> None:
    def seen(first, second) -> RunView:
        by_lr = {0.01: (0.9, first), 0.1: (0.2, [85.0] * 5), 1.0: (0.8, second)}
        return view_of(builders, [*baseline(builders), *tuned(builders, "toys/a", by_lr)])

    assert seen(others[:5], others[5:]) == seen([0.0] * 5, [0.0] * 5)


def test_failures_in_other_trials_are_told_but_do_not_touch_the_verdict(builders) -> None:
    rows = [
        *baseline(builders),
        *tuned(builders, "toys/a", {0.1: (0.2, [s + d for s, d in zip(BASE, (4, 5, 6, 4, 5), strict=True)])}),
        *[
            builders.make_row(
                technique="toys/a", status="error", reason=f"loss is nan at step {s}", stage="tuning",
                tuned={"lr": 1.0}, seed=s,
            )
            for s in (0, 1)
        ],
    ]  # fmt: skip
    found = summary(view_of(builders, rows), "toys/a")
    assert (found.status, found.verdict, found.failed_seeds) == ("ok", "better", 0)
    assert found.reason == "2 of 7 cases failed: error: loss is nan at step 0"


def test_a_technique_that_fails_on_a_seed_is_not_better_for_it(builders) -> None:
    gains = (4.0, 5.0, 6.0, 4.0)
    own = [score + gain for score, gain in zip(BASE[:4], gains, strict=True)]
    failed = builders.make_row(technique="toys/a", seed=4, status="oom", reason="3.2 GiB in train")
    cost = {"metrics": {"adapter_parameters": 5.0}}
    view = view_of(builders, [*baseline(builders, **cost), *builders.scored("toys/a", own, **cost), failed])
    found = summary(view, "toys/a")
    assert (found.status, found.verdict) == ("partial", "undecided")
    assert found.comparison.reason == "toys/a failed on 1 of its seeds"
    assert found.reason == "1 of 5 cases failed: oom: 3.2 GiB in train"
    assert (found.pareto, summary(view, "toys/base").pareto) == (False, True)
    assert view.failed == 1


def test_a_technique_that_fails_on_a_seed_may_still_be_worse(builders) -> None:
    own = [score - loss for score, loss in zip(BASE[:4], (40.0, 41.0, 42.0, 40.5), strict=True)]
    failed = builders.make_row(technique="toys/a", seed=4, status="oom")
    assert (
        summary(view_of(builders, [*baseline(builders), *builders.scored("toys/a", own), failed]), "toys/a").verdict
        == "worse"
    )


def test_a_baseline_that_fails_on_a_seed_makes_nothing_worse(builders) -> None:
    rows = [*baseline(builders)[:4], builders.make_row(technique="toys/base", seed=4, status="crash")]
    own = [score - loss for score, loss in zip(BASE, (4.0, 5.0, 6.0, 4.0, 5.0), strict=True)]
    found = summary(view_of(builders, [*rows, *builders.scored("toys/a", own)]), "toys/a")
    assert (found.verdict, found.comparison.n) == ("undecided", 4)


def test_unfinished_tuning_gives_no_verdict(builders) -> None:
    rows = tuned(builders, "toys/a", {0.1: (0.2, [1.0] * 5)})
    lone = builders.make_row(
        technique="toys/a", stage="tuning", tuned={"lr": 1.0}, metrics={"val_loss": 0.1, "accuracy": 2.0}
    )
    found = summary(view_of(builders, [*baseline(builders), *rows, lone]), "toys/a")
    assert (found.verdict, found.comparison.reason) == ("undecided", "the tuning of toys/a is unfinished")


@pytest.mark.parametrize("status", ["timeout", "unavailable", "skipped", "lost"])
def test_a_technique_without_results_shows_its_status_and_reason(builders, status: str) -> None:
    rows = [*baseline(builders), builders.make_row(technique="toys/a", status=status, reason="after 120 s in init")]
    found = summary(view_of(builders, rows), "toys/a")
    assert (found.quality, found.comparison, found.verdict, found.status) == (None, None, status, status)
    assert "after 120 s in init" in found.reason
    assert ("1 of 1 cases failed" in found.reason) == (status in ("timeout", "lost"))


def test_a_run_without_its_baseline_is_shown_without_comparisons(builders) -> None:
    view = view_of(builders, builders.scored("toys/a", BASE))
    assert (summary(view, "toys/a").comparison, summary(view, "toys/a").verdict) == (None, "undecided")
    assert view.workloads[0].baseline is None


def test_a_case_that_was_run_again_counts_once(builders) -> None:
    again = builders.make_row(technique="toys/a", seed=0, metrics={"accuracy": 50.0})
    first = builders.make_row(technique="toys/a", seed=0, status="crash")
    view = view_of(builders, [first, again, *baseline(builders)])
    found = summary(view, "toys/a")
    assert (found.cases, found.failures, found.quality.values) == (1, (), {0: 50.0})
    assert view.rows == 6


def test_numbers_that_are_not_finite_are_no_result(builders) -> None:
    view = view_of(builders, [*baseline(builders), *builders.scored("toys/a", [math.nan, 90.0, math.inf])])
    assert list(summary(view, "toys/a").quality.values) == [1]


def test_a_throughput_ratio_pairs_the_rounds_and_ignores_drift(builders) -> None:
    drift = [0.004 * (1 + round_ / 10) for round_ in range(20)]
    rows = [
        *baseline(builders),
        *builders.scored("toys/a", BASE),
        builders.timed("toys/base", drift, drift),
        builders.timed("toys/a", drift, [2 * second for second in drift]),
    ]
    view = view_of(builders, rows)
    ratio = summary(view, "toys/a").ratios["train"]
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert summary(view, "toys/base").ratios == {}
    assert summary(view, "toys/a").unstable == ()


def test_a_throughput_has_the_interval_of_its_rounds(builders) -> None:
    generator = np.random.default_rng(0)
    seconds = list(generator.lognormal(-5, 0.1, 25))
    rows = [*baseline(builders), builders.timed("toys/base", seconds, seconds)]
    found = summary(view_of(builders, rows), "toys/base").figures["train_throughput"].estimate
    assert found.value == pytest.approx(32 / np.median(seconds))
    assert found.low < found.value < found.high
    assert found.n == 25


def test_a_ratio_with_a_wide_interval_is_unstable(builders) -> None:
    generator = np.random.default_rng(0)
    base, own = generator.lognormal(-5, 0.5, 20), generator.lognormal(-5, 0.5, 20)
    rows = [*baseline(builders), *builders.scored("toys/a", BASE), builders.timed("toys/a", list(base), list(own))]
    assert summary(view_of(builders, rows), "toys/a").unstable == ("train",)


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8)


@given(points)
@settings(max_examples=40)
def test_the_pareto_front_is_what_nothing_dominates(builders, points: list[tuple[int, int]]) -> None:
    rows = [
        builders.make_row(technique=f"toys/{i}", metrics={"accuracy": float(q), "adapter_parameters": float(c)})
        for i, (q, c) in enumerate(points)
    ]
    view = view_of(builders, rows)
    front = {one.technique for one in view.workloads[0].techniques if one.pareto}
    for i, (quality, cost) in enumerate(points):
        beaten = any(q >= quality and c <= cost and (q > quality or c < cost) for q, c in points)
        assert (f"toys/{i}" in front) == (not beaten)


def test_without_parameters_memory_is_the_cost_and_without_memory_nothing_is(builders) -> None:
    memory = builders.make_row(lane="memory", metrics={"train_tensor_peak": 5.0})
    assert view_of(builders, [*baseline(builders), memory]).workloads[0].cost == "train_tensor_peak"
    view = view_of(builders, baseline(builders))
    assert view.workloads[0].cost is None
    assert not any(one.pareto for one in view.workloads[0].techniques)


def two_workloads(builders, **changes):
    suite = builders.make_suite(workloads=("core/beta", "core/alpha"), **changes)
    rows = [
        row
        for workload, bonus in (("core/alpha", 0.0), ("core/beta", 5.0))
        for name, scores in (("toys/base", BASE), ("toys/a", [score - 2 for score in BASE]))
        for row in builders.scored(name, [score + bonus for score in scores], workload=workload)
    ]
    return suite, rows


def test_workloads_come_in_the_suites_order_and_have_verdicts_of_their_own(builders) -> None:
    suite, rows = two_workloads(builders)
    view = view_of(builders, rows, suite)
    assert [one.workload for one in view.workloads] == ["core/beta", "core/alpha"]
    assert summary(view, "toys/base", 0).quality.estimate.value == pytest.approx(np.mean(BASE) + 5)


def test_over_all_workloads_there_is_an_iqm_with_pairs_intact(builders) -> None:
    suite, rows = two_workloads(builders)
    view = view_of(builders, rows, suite)
    assert [one.technique for one in view.overall] == ["toys/base", "toys/a"]
    difference = view.overall[1].difference
    assert (difference.low, difference.value, difference.high) == pytest.approx((-2.0, -2.0, -2.0))
    assert view.overall[0].difference is None


def test_a_technique_missing_on_a_workload_has_no_overall_score(builders) -> None:
    suite, rows = two_workloads(builders)
    rows = [row for row in rows if (row.case.technique, row.case.workload) != ("toys/a", "core/beta")]
    assert [one.technique for one in view_of(builders, rows, suite).overall] == ["toys/base"]


def test_one_workload_needs_no_overall_score(builders) -> None:
    assert view_of(builders, baseline(builders)).overall == ()


def test_a_metric_that_no_plugin_declares_is_a_usage_error(builders) -> None:
    with pytest.raises(UsageError, match="uses the metric 'smoothness', which no loaded plugin declares"):
        view_of(builders, [], builders.make_suite(metrics=("accuracy", "smoothness")))


def test_a_run_is_read_with_the_metrics_that_it_keeps_though_no_plugin_declares_them(builders) -> None:
    kept = [metric_to_json(metric) for metric in builders.METRICS.values()]
    info = builders.make_run(plugins=({"name": "toys", "metrics": kept},))
    rows = [*baseline(builders), *builders.scored("toys/a", [90.0] * 5)]
    assert RunView.build(info, rows, {}).metrics == RunView.build(info, rows, builders.METRICS).metrics
    changed = {**builders.METRICS, "accuracy": replace(builders.METRICS["accuracy"], higher_is_better=False)}
    assert RunView.build(info, rows, changed).quality.higher_is_better, "it is what it was when the run was made"


def test_an_empty_run_has_an_empty_view(builders) -> None:
    view = view_of(builders, [])
    assert (view.workloads, view.rows, view.overall) == ((), 0, ())


@pytest.mark.parametrize(
    ("finished", "code", "whole"), [("now", 0, True), ("now", 1, True), ("now", 130, False), ("", None, False)]
)
def test_only_a_run_that_went_to_its_end_is_finished(builders, finished, code, whole) -> None:
    assert view_of(builders, [], finished=finished, exit_code=code).finished is whole


def test_the_view_is_importable_from_the_package_and_only_then_loaded() -> None:
    code = (
        "import sys, harness.analysis\n"
        "assert 'harness.analysis.view' not in sys.modules\n"
        "from harness.analysis import RunView\n"
        "assert not {'numpy', 'scipy', 'torch'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
