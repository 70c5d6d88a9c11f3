from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.intervals import Spread, deviation
from harness.analysis.significance import (
    MOST_SEEDS,
    holm,
    paired_t_p,
    permutation_floor,
    power_of,
    seeds_for_effect,
    seeds_for_equivalence,
    sign_flip_p,
    smallest_effect,
)

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=10))
def test_the_t_test_is_scipys(differences: list[float]) -> None:
    assume(deviation(differences) > 1e-3)
    expected = stats.ttest_rel(differences, [0.0] * len(differences)).pvalue
    assert paired_t_p(differences) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def every_sign_pattern_p(differences: list[float]) -> float:
    seen = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in
            itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(one >= seen - 1e-9 for one in sums) / len(sums)


@given(st.lists(st.lists(st.integers(-50, 50).map(float), min_size=6, max_size=6), min_size=1, max_size=3))
@settings(max_examples=40)
def test_the_sign_flip_test_is_that_of_every_pattern_tried(rows: list[list[float]]) -> None:
    assert sign_flip_p(rows) == pytest.approx([every_sign_pattern_p(row) for row in rows])


def test_the_sign_flip_floor_is_reached_where_all_differences_agree() -> None:
    assert sign_flip_p([[1.0, 2.0, 3.0, 4.0, 5.0]]) == [permutation_floor(5)] == [0.0625]
    assert permutation_floor(10) == pytest.approx(0.00195, abs=1e-5)


def test_many_pairs_cannot_go_below_what_the_random_patterns_can_tell() -> None:
    assert sign_flip_p([[1.0] * 24]) == pytest.approx([permutation_floor(24)])
    assert sign_flip_p([[1.0] * 14]) == pytest.approx([permutation_floor(14)])


def test_many_pairs_are_tested_by_the_same_random_patterns_each_time() -> None:
    differences = list(np.random.default_rng(0).normal(0.4, 1.0, 24))
    assert sign_flip_p([differences]) == sign_flip_p([differences])
    assert sign_flip_p([differences])[0] == pytest.approx(stats.wilcoxon(differences).pvalue, abs=0.05)


@pytest.mark.parametrize("pairs", [2, 9, 14, 15, 20, 33])
def test_the_sign_flip_test_is_scipys_to_the_last_bit_also_where_means_are_tied(pairs: int) -> None:
    drawn = np.random.default_rng(pairs).normal(0.2, 1, (4, pairs))
    for rows in (drawn, np.round(drawn, 1), np.round(3 * drawn) / 30):
        expected = stats.permutation_test(
            (rows,), np.mean, permutation_type="samples", vectorized=True, axis=-1, n_resamples=2**14, batch=256,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        assert sign_flip_p(rows.tolist()) == expected.pvalue.tolist()


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm by the closure principle: the worst Bonferroni p among all subsets that hold the hypothesis."""
    m = len(p_values)
    subsets = [one for size in range(1, m + 1) for one in itertools.combinations(range(m), size)]
    return [max(min(1.0, len(one) * min(p_values[j] for j in one)) for one in subsets if i in one) for i in range(m)]


@given(probabilities)
def test_holm_is_the_closure_of_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


@pytest.mark.parametrize(("sd", "seeds"), [(0.5, 5), (1.0, 10), (2.0, 34)])
def test_one_point_needs_the_seeds_that_power_tables_give(sd: float, seeds: int) -> None:
    assert seeds_for_effect(Spread(sd=sd), 1.0) == seeds


def integrated_power(n: int, effect: float, alpha: float) -> float:
    """P(t > threshold) as the mean, over the quantiles of the estimated spread, of a normal probability."""
    spread = np.sqrt(stats.chi2.ppf((np.arange(5000) + 0.5) / 5000, n - 1) / (n - 1))
    return float(np.mean(stats.norm.cdf(math.sqrt(n) * effect - stats.t.ppf(1 - alpha / 2, n - 1) * spread)))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50, 110, 125, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.043, 0.0025])
def test_the_power_is_that_of_an_integral_over_the_spread(n: int, alpha: float) -> None:
    for effect in np.geomspace(0.01, 20, 40):
        expected = integrated_power(n, effect, alpha)
        assert power_of(n, Spread(sd=3.0), 3 * effect, alpha=alpha) == pytest.approx(expected, abs=2e-3)


def test_a_large_effect_needs_few_seeds_also_where_scipys_distribution_has_holes() -> None:
    assert seeds_for_effect(Spread(sd=1.0), 3.53, alpha=0.043) == 3


def test_so_many_seeds_see_the_effect_four_times_of_five_and_one_less_does_not() -> None:
    generator = np.random.default_rng(0)
    seeds = seeds_for_effect(Spread(sd=1.0), 0.9)
    assert seeds is not None
    powers = [
        np.mean(stats.ttest_1samp(generator.normal(0.9, 1.0, (20_000, n)), 0.0, axis=1).pvalue < 0.05)
        for n in (seeds, seeds - 1)
    ]
    assert powers[0] > 0.795
    assert powers[1] < 0.8


def test_effects_far_below_the_noise_need_too_many_seeds() -> None:
    assert seeds_for_effect(Spread(sd=1.0), 0.01) is None
    assert seeds_for_effect(Spread(sd=1.0), 0.1) == pytest.approx(787, abs=5)
    assert seeds_for_effect(Spread(sd=0.0), 1.0) == 2
    assert seeds_for_effect(Spread(sd=1e-6), 1.0) == 2


@given(st.integers(3, 200), st.floats(0.01, 50), st.floats(0.001, 0.05))
def test_the_smallest_effect_is_the_one_that_just_needs_these_seeds(n: int, sd: float, alpha: float) -> None:
    effect = smallest_effect(n, Spread(sd=sd), alpha=alpha)
    assert power_of(n, Spread(sd=sd), effect, alpha=alpha) == pytest.approx(0.8, abs=1e-4)
    needed = seeds_for_effect(Spread(sd=sd), effect * 1.001, alpha=alpha)
    assert needed is not None
    assert needed <= n


def test_equivalence_needs_more_seeds_the_nearer_the_difference_is_to_the_margin() -> None:
    needed = [seeds_for_equivalence(Spread(sd=0.5), difference, 1.0) for difference in (0.0, 0.3, -0.6, 0.9)]
    assert needed == sorted(needed)
    assert seeds_for_equivalence(Spread(sd=0.5), 1.0, 1.0) is None
    assert seeds_for_equivalence(Spread(sd=0.5), 0.999, 1.0) is None


def test_so_many_seeds_bring_the_interval_inside_the_margin_four_times_of_five() -> None:
    generator = np.random.default_rng(0)
    seeds = seeds_for_equivalence(Spread(sd=1.0), 0.3, 1.0)
    assert seeds is not None
    assert seeds < MOST_SEEDS
    draws = generator.normal(0.3, 1.0, (5000, seeds))
    half = stats.t.ppf(0.975, seeds - 1) * draws.std(axis=1, ddof=1) / math.sqrt(seeds)
    assert np.mean(draws.mean(axis=1) + half < 1.0) == pytest.approx(0.8, abs=0.04)


def test_degrees_of_freedom_from_a_prior_need_fewer_seeds_and_count_at_most_as_often_as_their_weight_allows() -> None:
    plain, moderated = Spread(sd=1.0), Spread(sd=1.0, prior=math.inf, weight=2.0)
    assert [moderated.degrees(n) for n in (3, 5)] == [6, 12]
    assert Spread(sd=1.0, prior=3.3, weight=2.0).degrees(5) == pytest.approx(7.3)
    assert Spread(sd=1.0, prior=math.inf, weight=0.0).degrees(5) == 4
    few, many = (seeds_for_effect(spread, 2.0, alpha=0.05 / 22) for spread in (moderated, plain))
    assert few is not None
    assert many is not None
    assert few < many
