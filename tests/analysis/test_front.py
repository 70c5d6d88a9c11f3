"""The Pareto front of quality and cost, with the time that decides between equals."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.view import RunView
from tests.analysis.test_view import BASE, baseline, view_of


def seconds(factor: float, seed: int, spread: float = 0.02) -> list[float]:
    return list(factor * 0.01 * np.random.default_rng(seed).lognormal(0, spread, 20))


def front(view: RunView) -> set[str]:
    return {summary.technique for summary in view.workloads[0].techniques if summary.pareto}


def rows_of(builders, speeds: dict[str, float], spread: float = 0.02) -> list:
    """Return rows of techniques with equal scores and parameters, whose steps take so many times the baseline's."""
    cost = {"metrics": {"adapter_parameters": 5.0}}
    rows = baseline(builders, **cost)
    for number, (name, factor) in enumerate(speeds.items()):
        rows += builders.scored(name, BASE, **cost)
        rows.append(builders.timed(name, seconds(1, number, spread), seconds(factor, 100 + number, spread)))
    return rows


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({"toys/twin": 100.0}, {"toys/base"}),
        ({"toys/twin": 0.5}, {"toys/twin"}),
        ({"toys/twin": 1.0}, {"toys/base", "toys/twin"}),
        ({"toys/a": 0.5, "toys/b": 0.5, "toys/c": 3.0}, {"toys/a", "toys/b"}),
    ],
)
def test_of_equals_the_fastest_are_on_the_front(builders, speeds: dict[str, float], expected: set[str]) -> None:
    assert front(view_of(builders, rows_of(builders, speeds))) == expected


def test_times_that_cannot_be_told_apart_decide_nothing(builders) -> None:
    view = view_of(builders, rows_of(builders, {"toys/twin": 1.2}, spread=1.5))
    assert front(view) == {"toys/base", "toys/twin"}


def test_a_slow_technique_that_is_better_or_cheaper_is_on_the_front(builders) -> None:
    rows = baseline(builders, metrics={"adapter_parameters": 5.0})
    rows += builders.scored("toys/better", [score + 1 for score in BASE], metrics={"adapter_parameters": 6.0})
    rows += builders.scored("toys/cheaper", [score - 1 for score in BASE], metrics={"adapter_parameters": 4.0})
    rows += [builders.timed(name, seconds(1, 0), seconds(100, 1)) for name in ("toys/better", "toys/cheaper")]
    assert front(view_of(builders, rows)) == {"toys/base", "toys/better", "toys/cheaper"}


def test_an_equal_that_was_not_timed_stays_on_the_front(builders) -> None:
    cost = {"metrics": {"adapter_parameters": 5.0}}
    rows = [*rows_of(builders, {"toys/fast": 0.5}), *builders.scored("toys/untimed", BASE, **cost)]
    assert front(view_of(builders, rows)) == {"toys/fast", "toys/untimed"}
