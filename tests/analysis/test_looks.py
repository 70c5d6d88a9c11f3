"""The levels of repeated looks at the seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.analysis.looks import crossing, levels, pocock
from harness.analysis.significance import Correction, holm
from harness.until import LOOKS


@pytest.mark.parametrize(("count", "nominal"), [(2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158), (10, 0.0106)])
def test_the_levels_of_equal_looks_are_those_of_pococks_table(count: int, nominal: float) -> None:
    """Pocock 1977, table 1; each level is rounded to four places there."""
    at = tuple(5 * look for look in range(1, count + 1))
    assert 0.05 * pocock(at, 1) == pytest.approx(nominal, abs=6e-5)


def test_a_single_look_has_the_whole_level() -> None:
    assert pocock((5,), 22) == 1.0
    assert levels((5,), 3) == pytest.approx((0.05 / 3, 0.05 / 2, 0.05))


@pytest.mark.parametrize("at", [LOOKS, (5, 10, 12)])
def test_a_mean_without_an_effect_passes_the_critical_value_as_often_as_the_integral_says(at: tuple[int, ...]) -> None:
    runs, critical = 200_000, 2.0
    sums = np.random.default_rng(0).normal(size=(runs, at[-1])).cumsum(axis=1)
    z = sums[:, [seeds - 1 for seeds in at]] / np.sqrt(at)
    simulated = (np.abs(z) > critical).any(axis=1).mean()
    expected = crossing(at, critical)
    assert simulated == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / runs))


def test_a_share_falls_slowly_with_the_number_of_hypotheses() -> None:
    shares = [pocock(LOOKS, hypotheses) for hypotheses in (1, 5, 22, 100)]
    assert shares == sorted(shares, reverse=True)
    between = shares[0] + (shares[1] - shares[0]) * np.log(2) / np.log(5)
    assert pocock(LOOKS, 2) == pytest.approx(between, abs=0.005)
    critical = stats.norm.isf(0.05 / 22 * shares[2] / 2)
    assert crossing(LOOKS, critical) == pytest.approx(0.05 / 22)


def test_the_levels_are_those_of_holms_steps() -> None:
    found = levels(LOOKS, 3)
    assert found == pytest.approx([0.05 / left * pocock(LOOKS, left) for left in (3, 2, 1)])
    assert list(found) == sorted(found)


def test_a_correction_for_looks_rejects_what_is_below_the_levels_and_counts_what_is_kept() -> None:
    correction = Correction(kept=1, looks=LOOKS)
    first, second, third = levels(LOOKS, 3)
    corrected = correction.correct([0.99 * second, 0.99 * first])
    assert max(corrected) < 0.05
    assert correction.correct([0.99 * second, 1.01 * first])[0] > 0.05
    assert correction.correct([0.99 * third]) > [0.05]
    assert correction.coverage == pytest.approx(1 - third)


def test_a_correction_of_a_single_look_is_holms() -> None:
    p_values = [0.01, 0.04, 0.03]
    assert Correction().correct(p_values) == holm(p_values) == pytest.approx([0.03, 0.06, 0.06])
    assert Correction(families=2).correct(p_values) == pytest.approx([0.06, 0.12, 0.12])
