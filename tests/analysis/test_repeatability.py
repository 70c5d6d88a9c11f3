"""How far rounding alone moves a result: the figure, and where it matters."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest

from harness.analysis import RunView
from harness.analysis.changes import Pairing, find_changes
from harness.analysis.repeatability import rests_on_rounding, shaken
from harness.analysis.states import of_one_identity
from harness.api import Row
from harness.report.figures import view_to_json
from harness.results.store import StoredRun

BASE = [90.0, 91.5, 89.0, 92.0, 90.5]
NOISE = [0.5, -0.5, 0.3, -0.2, 0.1]


def repeated(builders: ModuleType, technique: str, score: float, seed: int = 0, **changes: object) -> Row:
    return builders.make_row(  # type: ignore[no-any-return]
        technique=technique, seed=seed, metrics={"accuracy": score}, perturbed=True, **changes
    )


def view_of(builders: ModuleType, moved: dict[str, float], margin: float = 1.0, gain: float = 3.0) -> RunView:
    """Return the view of two techniques and a baseline, whose first seed moves by as much when it is repeated."""
    scores = {
        "toys/base": BASE,
        "toys/a": [score + gain + noise for score, noise in zip(BASE, NOISE, strict=True)],
        "toys/b": [score + gain - noise for score, noise in zip(BASE, NOISE, strict=True)],
    }
    rows = [row for name, values in scores.items() for row in builders.scored(name, values)]
    rows += [repeated(builders, name, scores[name][0] + change) for name, change in moved.items()]
    suite = builders.make_suite(tuning={}, margins={"accuracy": margin})
    return RunView.build(builders.make_run(suite), rows, builders.METRICS)


def names(view: RunView) -> list[str]:
    return [summary.technique for summary in shaken(view.workloads[0].techniques)]


def test_the_change_stands_beside_the_spread_of_the_seeds(builders: ModuleType) -> None:
    view = view_of(builders, {"toys/base": 0.1, "toys/a": -0.4})
    of = {summary.technique: summary.repeatability for summary in view.workloads[0].techniques}
    assert of["toys/b"] is None
    assert of["toys/a"] is not None
    assert of["toys/a"].change == pytest.approx(0.4)
    assert of["toys/a"].seeds == {0: pytest.approx(-0.4)}
    assert of["toys/a"].spread == pytest.approx(np.std(np.add(BASE, NOISE), ddof=1))
    assert of["toys/a"].of_difference == pytest.approx(math.sqrt((0.4**2 + 0.1**2) / 2))


def test_rounding_matters_from_half_the_spread_of_the_paired_differences_on(builders: ModuleType) -> None:
    spread = float(np.std(NOISE, ddof=1))
    least = spread / 2 * math.sqrt(2)
    assert names(view_of(builders, {"toys/base": 0.0, "toys/a": 0.99 * least}, margin=100.0)) == []
    assert names(view_of(builders, {"toys/base": 0.0, "toys/a": 1.01 * least}, margin=100.0)) == ["toys/a"]
    both = least / math.sqrt(2)
    assert names(view_of(builders, {"toys/base": 1.01 * both, "toys/a": 1.01 * both}, margin=100.0)) == ["toys/a"]


def test_rounding_matters_where_it_blurs_the_mean_difference_by_half_the_margin(builders: ModuleType) -> None:
    least = 0.05 * math.sqrt(2 * len(BASE))
    assert names(view_of(builders, {"toys/base": 0.0, "toys/a": 0.99 * least}, margin=0.1)) == []
    assert names(view_of(builders, {"toys/base": 0.0, "toys/a": 1.01 * least}, margin=0.1)) == ["toys/a"]


def test_a_chaotic_baseline_shakes_every_comparison(builders: ModuleType) -> None:
    view = view_of(builders, {"toys/base": 3.0, "toys/a": 0.0, "toys/b": 0.0})
    assert set(names(view)) == {"toys/a", "toys/b"}
    assert rests_on_rounding(view.workloads[0].techniques)


def test_what_moves_by_rounding_errors_only_is_silent(builders: ModuleType) -> None:
    view = view_of(builders, dict.fromkeys(("toys/base", "toys/a", "toys/b"), 1e-6))
    assert names(view) == []
    assert not rests_on_rounding(view.workloads[0].techniques)


def test_a_repeated_training_enters_no_figure_verdict_or_tuning(builders: ModuleType) -> None:
    plain, moved = view_of(builders, {}), view_of(builders, {"toys/base": 9.0, "toys/a": -9.0})
    for own, other in zip(plain.workloads[0].techniques, moved.workloads[0].techniques, strict=True):
        assert (own.figures, own.comparison, own.ended) == (other.figures, other.comparison, other.ended)


def test_a_repeated_training_that_fails_is_told_and_costs_no_seed(builders: ModuleType) -> None:
    rows = [*builders.scored("toys/base", BASE), *builders.scored("toys/a", [score + 5 for score in BASE])]
    failed = builders.make_row(technique="toys/a", perturbed=True, status="error", reason="loss is inf at step 7")
    view = RunView.build(builders.make_run(builders.make_suite(tuning={})), [*rows, failed], builders.METRICS)
    own = next(summary for summary in view.workloads[0].techniques if summary.technique == "toys/a")
    assert (own.status, own.failed_seeds, own.seeds, own.repeatability) == ("ok", 0, 5, None)
    assert own.reason == "1 of 6 cases failed: error: loss is inf at step 7"


def test_only_a_repeated_training_is_no_result(builders: ModuleType) -> None:
    rows = [*builders.scored("toys/base", BASE), repeated(builders, "toys/a", 90.0)]
    view = RunView.build(builders.make_run(builders.make_suite(tuning={})), rows, builders.METRICS)
    own = next(summary for summary in view.workloads[0].techniques if summary.technique == "toys/a")
    assert (own.quality, own.verdict) == (None, "unfinished")


def test_both_trainings_of_a_seed_are_of_one_version_of_the_code(builders: ModuleType) -> None:
    rows = [*builders.scored("toys/a", BASE), repeated(builders, "toys/a", 90.0)]
    assert of_one_identity(rows).rows == tuple(rows)


def test_commits_are_compared_without_the_repeated_trainings(builders: ModuleType) -> None:
    rows = [*builders.scored("toys/base", BASE), *builders.scored("toys/a", BASE)]
    failed = builders.make_row(technique="toys/a", perturbed=True, status="error", reason="loss is inf")
    info = builders.make_run(builders.make_suite(tuning={}))
    before = StoredRun(info=info, rows=tuple(rows))
    after = StoredRun(info=info, rows=(*rows, repeated(builders, "toys/base", 0.0), failed))
    changes = find_changes([Pairing(reference=before, head=after)], builders.METRICS)
    assert {change.reason for change in changes.changes} == {"identical"}


def test_the_figures_for_programs_have_it(builders: ModuleType) -> None:
    data = view_to_json(view_of(builders, {"toys/a": 2.0}))
    (workload,) = data["workloads"]  # type: ignore[misc]
    own = next(entry for entry in workload["techniques"] if entry["technique"] == "toys/a")  # type: ignore[index]
    assert own["repeatability"]["change"] == pytest.approx(2.0)  # type: ignore[index]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.0, 0.0), (0.02, 0.0, 0.02), (1.0, 0.95, 1.0)])
def test_the_line_on_a_suite_errs_as_seldom_as_documented(share: float, low: float, high: float) -> None:
    """Simulate what the rule says of 22 techniques whose differences owe such a share of their variance to rounding."""
    generator = np.random.default_rng(0)
    runs, techniques, seeds = 4000, 22, 5
    moved = np.sqrt(share / 2) * generator.normal(
        0, np.sqrt(2), (runs, techniques + 1)
    )  # of a difference of variance 1
    variance = (moved[:, 1:] ** 2 + moved[:, :1] ** 2) / 2
    spread = generator.chisquare(seeds - 1, (runs, techniques)) / (seeds - 1)
    told = ((variance >= 0.25 * spread) & (variance > 0)).sum(1) >= techniques / 4
    assert low <= told.mean() <= high
