from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.tuning import select_best

NAN = float("nan")


def trial(builders, tuned, scores, **changes):
    """Tuning rows of toys/a: one a seed; None is a failed case."""
    given = {"technique": "toys/a", "stage": "tuning", **changes}
    tuned = tuned if isinstance(tuned, dict) else {"lr": tuned}
    return [
        builders.make_row(tuned=tuned, seed=seed, status="error", reason="loss is nan", **given)
        if score is None
        else builders.make_row(tuned=tuned, seed=seed, metrics={"val_loss": score}, **given)
        for seed, score in enumerate(scores)
    ]


def choose(builders, rows, metric="val_loss", **suite):
    suite = builders.make_suite(select=metric, **suite)
    return select_best(rows, suite, "toys/a", "core/alpha", builders.METRICS[metric])


def test_the_best_mean_over_the_tuning_seeds_is_chosen(builders) -> None:
    rows = [*trial(builders, 0.01, [0.2, 0.9]), *trial(builders, 0.1, [0.5, 0.5]), *trial(builders, 1.0, [0.9, 0.4])]
    choice = choose(builders, rows)
    assert (choice.tuned, choice.score, choice.edge, choice.complete) == ({"lr": 0.1}, 0.5, False, True)
    assert [point.tuned["lr"] for point in choice.points] == [0.01, 0.1, 1.0]
    assert choice.points[0].scores == {0: 0.2, 1: 0.9}


def test_the_direction_is_the_metrics(builders) -> None:
    rows = [
        builders.make_row(technique="toys/a", stage="tuning", tuned={"lr": lr}, metrics={"accuracy": score})
        for lr, score in ((0.01, 50.0), (0.1, 90.0), (1.0, 70.0))
    ]
    assert choose(builders, rows, metric="accuracy").tuned == {"lr": 0.1}


@pytest.mark.parametrize("failed", [None, NAN])
def test_a_trial_that_failed_on_a_seed_loses_to_any_that_did_not(builders, failed) -> None:
    rows = [*trial(builders, 0.01, [0.001, failed]), *trial(builders, 0.1, [9.0, 9.0])]
    assert choose(builders, rows).tuned == {"lr": 0.1}


def test_where_all_trials_failed_somewhere_the_fewest_failures_win(builders) -> None:
    rows = [
        *trial(builders, 0.01, [None, None]),
        *trial(builders, 0.1, [9.0, None]),
        *trial(builders, 1.0, [3.0, None]),
    ]
    choice = choose(builders, rows)
    assert choice.tuned == {"lr": 1.0}
    assert choice.points[0].mean is None
    assert choice.points[0].reasons == ("loss is nan",)


def test_nothing_is_chosen_where_nothing_worked_or_nothing_was_tuned(builders) -> None:
    assert choose(builders, trial(builders, 0.1, [None, None])) is None
    assert choose(builders, []) is None
    assert choose(builders, trial(builders, 0.1, [1.0], stage="final")) is None


def test_rows_of_others_do_not_count(builders) -> None:
    rows = [
        *trial(builders, 0.1, [0.5, 0.5]),
        *trial(builders, 0.2, [0.1, 0.1], technique="toys/b"),
        *trial(builders, 0.3, [0.1, 0.1], workload="core/beta"),
        *trial(builders, 0.4, [0.1, 0.1], stage="final"),
    ]
    assert [point.tuned for point in choose(builders, rows).points] == [{"lr": 0.1}]


def test_a_trial_whose_seeds_are_not_all_there_waits_behind_those_that_are(builders) -> None:
    rows = [*trial(builders, 0.01, [0.001]), *trial(builders, 0.1, [9.0, 9.0])]
    choice = choose(builders, rows)
    assert (choice.tuned, choice.complete) == ({"lr": 0.1}, False)


@pytest.mark.parametrize(("best", "edge"), [(0.01, "lowest"), (1.0, "highest")])
def test_a_choice_at_the_edge_of_its_grid_is_flagged(builders, best, edge) -> None:
    rows = [row for lr in (1.0, 0.01, 0.1) for row in trial(builders, lr, [0.1 if lr == best else 0.5] * 2)]
    assert choose(builders, rows).edges == {"lr": edge}


def test_only_ordered_numbers_have_an_edge(builders) -> None:
    grid = [{"lr": lr, "init": init, "rank": 4} for lr in (0.1, 0.2, 0.4) for init in ("a", "b")]
    rows = [row for one in grid for row in trial(builders, one, [0.1 if one == grid[0] else 0.5] * 2)]
    assert choose(builders, rows).edges == {"lr": "lowest"}


@given(
    st.lists(st.lists(st.sampled_from([None, 0.1, 0.2, 0.3]), min_size=2, max_size=2), min_size=1, max_size=5),
    st.randoms(),
)
def test_the_order_in_which_cases_ended_decides_nothing(builders, grid, shuffler: random.Random) -> None:
    rows = [row for index, scores in enumerate(grid) for row in trial(builders, 10.0**index, scores)]
    before = choose(builders, rows)
    shuffler.shuffle(rows)
    assert choose(builders, rows) == before


@given(st.lists(st.lists(st.none() | st.floats(0, 9), min_size=2, max_size=2), min_size=1, max_size=6))
def test_no_trial_without_failures_is_better_than_the_chosen_one(builders, grid) -> None:
    choice = choose(builders, [row for index, one in enumerate(grid) for row in trial(builders, float(index), one)])
    clean = [sum(one) / 2 for one in grid if None not in one]
    if clean:
        assert choice.score == pytest.approx(min(clean))


def test_tuning_imports_neither_numpy_nor_scipy() -> None:
    code = "import sys, harness.analysis.tuning; raise SystemExit(bool({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
