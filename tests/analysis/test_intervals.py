from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.intervals import (
    deviation,
    iqm,
    iqm_difference,
    iqm_interval,
    mean_interval,
    median_interval,
    ratio_interval,
)

scores = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@given(scores)
def test_the_mean_interval_is_scipys_t_interval(values: list[float]) -> None:
    found = mean_interval(values)
    if deviation(values) == 0:
        assert found.low == found.high == found.value
        return
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.value == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_one_value_has_no_interval() -> None:
    for found in (mean_interval([3.0]), median_interval([3.0])):
        assert (found.value, found.low, found.high, found.n) == (3.0, None, None, 1)


def test_rounding_errors_are_not_spread() -> None:
    assert deviation([0.1 + 0.2, 0.3, 0.3]) == 0.0
    assert deviation([0.3, 0.3001, 0.3]) == pytest.approx(np.std([0.3, 0.3001, 0.3], ddof=1))


def test_the_paired_t_interval_covers_the_truth_19_times_of_20_at_five_seeds() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0.7, 1.3, (4000, 5))
    found = [mean_interval(list(row)) for row in differences]
    coverage = np.mean([one.low <= 0.7 <= one.high for one in found])
    assert 0.94 <= coverage <= 0.96


def test_the_median_interval_covers_the_truth_and_is_the_same_each_time() -> None:
    generator = np.random.default_rng(2)
    samples = generator.lognormal(0.0, 0.3, (300, 25))
    found = [median_interval(list(row)) for row in samples]
    coverage = np.mean([one.low <= 1.0 <= one.high for one in found])
    assert 0.91 <= coverage <= 0.99
    assert median_interval(list(samples[0])) == found[0]
    assert all(one.low <= one.value <= one.high for one in found)


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30), st.floats(0.1, 10.0))
def test_a_paired_ratio_is_immune_to_a_machine_that_drifts(own: list[float], factor: float) -> None:
    found = ratio_interval([factor * second for second in own], own)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((factor,) * 3)


def test_swapping_the_sides_of_a_ratio_inverts_it() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.lognormal(0, 0.2, 21), generator.lognormal(0.4, 0.2, 21)
    forth, back = ratio_interval(a, b), ratio_interval(b, a)
    assert forth is not None
    assert back is not None
    assert forth.value == pytest.approx(1 / back.value)
    assert (forth.low, forth.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_pairs_without_a_time_are_left_out_of_a_ratio() -> None:
    found = ratio_interval([2.0, 0.0, math.nan, 2.0, math.inf], [1.0, 1.0, 1.0, 1.0, 1.0])
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(2.0), 2)
    assert ratio_interval([0.0], [1.0]) is None
    assert ratio_interval([], []) is None


@given(scores)
def test_the_iqm_is_scipys_quarter_trimmed_mean(values: list[float]) -> None:
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-9, abs=1e-9)


def test_resampling_keeps_pairs_intact() -> None:
    generator = np.random.default_rng(4)
    baseline = [list(generator.normal(50, 20, 5)), list(generator.normal(90, 20, 5))]
    better = [[score + 2.0 for score in one] for one in baseline]
    found = iqm_difference(better, baseline)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_resampling_stays_within_workloads() -> None:
    constant = iqm_interval([[10.0] * 5, [90.0] * 5])
    assert (constant.low, constant.value, constant.high) == pytest.approx((50.0, 50.0, 50.0))
    assert constant.n == 10


def test_the_iqm_interval_contains_the_iqm_of_the_population_most_of_the_time() -> None:
    generator = np.random.default_rng(5)
    draws = generator.normal(0.0, 1.0, (200, 3, 10))
    found = [iqm_interval([list(stratum) for stratum in one]) for one in draws]
    assert 0.88 <= np.mean([one.low <= 0.0 <= one.high for one in found]) <= 0.99


@pytest.mark.parametrize("n", [2, 3, 12, 37, 300])
def test_the_median_interval_is_that_of_resamples_drawn_and_sorted_by_numpy(n: int) -> None:
    values = np.random.default_rng(n).lognormal(size=n).round(1)
    picks = np.random.default_rng(0).integers(0, n, (2000, n))
    low, high = np.quantile(np.median(values[picks], axis=1), [(1 - 0.95) / 2, (1 + 0.95) / 2])
    found = median_interval(values.tolist())
    assert (found.value, found.low, found.high) == (np.median(values), low, high)


def test_values_whose_sum_or_squares_are_beyond_all_numbers_have_the_interval_of_small_ones() -> None:
    small = mean_interval([1.0, 1.2, 1.4])
    for large in (1e160, 1e308):
        found = mean_interval([1.0 * large, 1.2 * large, 1.4 * large])
        assert [found.value, found.low, found.high] == pytest.approx(
            [large * small.value, large * small.low, large * small.high], rel=1e-9
        )
