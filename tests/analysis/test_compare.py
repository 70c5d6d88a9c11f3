from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.compare import Comparison, Rule, compare_family, compare_pair

POINT = Rule(margin=1.0, higher_is_better=True)
ANY = Rule(margin=0.0, higher_is_better=True)
LOSS = Rule(margin=0.0, higher_is_better=False)
BASE = {0: 80.0, 1: 82.0, 2: 79.0, 3: 85.0, 4: 81.0}


def shifted(*by: float) -> dict[int, float]:
    return {seed: BASE[seed] + difference for seed, difference in enumerate(by)}


def family(vectors: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"t{index}": dict(enumerate(row)) for index, row in enumerate(vectors)}


def test_a_clear_gain_is_better_and_a_clear_loss_worse() -> None:
    assert compare_pair(shifted(3.0, 3.5, 2.5, 3.2, 2.8), BASE, POINT).verdict == "better"
    assert compare_pair(shifted(-3.0, -3.5, -2.5, -3.2, -2.8), BASE, POINT).verdict == "worse"


def test_where_lower_is_better_a_lower_value_is_better() -> None:
    found = compare_pair(shifted(-3.0, -3.5, -2.5, -3.2, 0.1), BASE, LOSS)
    assert (found.verdict, found.wins, found.n) == ("better", 4, 5)
    assert found.difference is not None
    assert found.difference.value < 0


def test_a_significant_difference_below_the_margin_is_the_same() -> None:
    found = compare_pair(shifted(0.30, 0.31, 0.29, 0.30, 0.32), BASE, POINT)
    assert found.p is not None
    assert found.p < 1e-4
    assert found.verdict == "same"


def test_a_wide_interval_is_undecided_and_says_how_many_seeds_would_do() -> None:
    found = compare_pair(shifted(4.0, -2.0, 3.0, -1.0, 2.5), BASE, POINT)
    assert found.verdict == "undecided"
    assert found.seeds_needed is not None
    assert found.seeds_needed > 5
    assert found.reason == f"about {found.seeds_needed} seeds needed"


def test_a_difference_at_the_margin_is_told_to_be_beyond_any_number_of_seeds() -> None:
    found = compare_pair(shifted(0.8, 1.1, 1.2, 0.9, 0.999), BASE, POINT)
    assert (found.verdict, found.seeds_needed) == ("undecided", None)
    assert found.reason == "no realistic number of seeds would tell"


def test_equal_values_on_every_seed_are_identical() -> None:
    found = compare_pair(dict(BASE), BASE, POINT)
    assert (found.verdict, found.reason, found.ties, found.p) == ("same", "identical", 5, 1.0)


def test_the_same_difference_on_every_seed_does_not_pass_for_certainty() -> None:
    found = compare_pair(shifted(5.0, 5.0, 5.0, 5.0, 5.0), BASE, POINT)
    assert found.verdict == "undecided"
    assert "no spread" in found.reason
    assert (found.p, found.decided_by) == (0.0625, "permutation")


def test_values_that_do_not_vary_with_the_seed_are_compared_as_they_are() -> None:
    fewer, more = dict.fromkeys(range(5), 7200.0), dict.fromkeys(range(5), 69200.0)
    found = compare_pair(fewer, more, LOSS)
    assert (found.verdict, found.decided_by, found.p) == ("better", "exact", None)
    assert compare_pair(more, fewer, LOSS).verdict == "worse"


def test_one_shared_seed_or_none_decides_nothing() -> None:
    one = compare_pair({0: 99.0}, BASE, POINT)
    assert (one.verdict, one.n, one.reason, one.p) == ("undecided", 1, "one seed", None)
    none = compare_pair({9: 99.0}, BASE, POINT)
    assert (none.verdict, none.difference, none.reason) == ("undecided", None, "no seed in common")


def test_only_shared_seeds_are_paired() -> None:
    own = {**shifted(2.0, 3.0), 2: 85.0, 77: 0.0}
    assert compare_pair(own, BASE, POINT).n == 3


@pytest.mark.parametrize(("contestants", "weight"), [(4, 0), (5, 5 / 12), (12, 1), (15, 1.25), (26, 1.25)])
def test_the_more_contestants_there_are_the_more_their_common_variance_may_weigh(
    contestants: int, weight: float
) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(0, 1, (contestants, 5))
    found = compare_family(family(vectors), dict(enumerate(generator.normal(0, 1, 5))), POINT)
    assert {comparison.decided_by for comparison in found.values()} == {"moderated" if weight else "t"}
    assert {comparison.degrees for comparison in found.values()} == {
        4 * (1 + weight)
    }  # equal variances: as much as is allowed
    for comparison in found.values():
        assert comparison.tested_sd >= comparison.sd or comparison.tested_sd == pytest.approx(comparison.sd)


def test_a_comparison_that_was_planned_alone_is_made_by_the_plain_t_test_and_its_interval() -> None:
    found = compare_pair(shifted(1.0, 2.0, 3.0, 4.0, 5.0), BASE, POINT)
    assert (found.decided_by, found.degrees, found.tested_sd) == ("t", 4, found.sd)
    assert found.p == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0, 4.0, 5.0], 0).pvalue)


def test_the_interval_is_that_of_the_test_that_decides() -> None:
    generator = np.random.default_rng(5)
    scores = 85 + generator.normal(0, 1, (13, 6))
    for comparison in compare_family(family(scores[1:]), dict(enumerate(scores[0])), ANY).values():
        half = stats.t.ppf(0.975, comparison.degrees) * comparison.tested_sd / np.sqrt(comparison.n)
        assert (comparison.difference.high - comparison.difference.low) / 2 == pytest.approx(half)
        assert (comparison.difference.low > 0 or comparison.difference.high < 0) == (comparison.p < 0.05)


@pytest.mark.parametrize(("seeds", "beside"), [(9, False), (10, True)])
def test_the_sign_flip_test_stands_beside_from_ten_seeds_on_and_decides_nothing(seeds: int, beside: bool) -> None:
    base = dict(enumerate(range(seeds)))
    own = {seed: value + 1 + 0.01 * seed for seed, value in base.items()}
    found = compare_pair(own, base, ANY)
    assert found.decided_by == "t"
    assert (found.p_sign_flip is not None) == beside
    if beside:
        assert found.p_sign_flip == pytest.approx(2 / 2**seeds)


def test_a_difference_without_spread_takes_no_part_in_the_common_variance() -> None:
    generator = np.random.default_rng(3)
    others = {f"t{i}": shifted(*generator.normal(0, 2, 5)) for i in range(12)}
    alone = compare_family(others, BASE, POINT)
    beside = compare_family({"constant": shifted(*[5.0] * 5), "copy": dict(BASE), **others}, BASE, POINT)
    assert (beside["constant"].verdict, beside["copy"].verdict) == ("undecided", "same")
    for name, comparison in alone.items():
        assert (beside[name].tested_sd, beside[name].degrees) == (comparison.tested_sd, comparison.degrees)
        assert beside[name].family == comparison.family + 2


def test_a_family_is_corrected_for_its_size() -> None:
    own = shifted(3.0, 3.5, 1.5, 2.2, 0.8)
    alone = compare_pair(own, BASE, POINT)
    generator = np.random.default_rng(1)
    others = {f"other{i}": shifted(*generator.normal(0, 2, 5)) for i in range(19)}
    among = compare_family({"own": own, **others}, BASE, POINT)["own"]
    assert among.family == 20
    assert among.p_holm == pytest.approx(20 * among.p)
    assert (alone.verdict, among.verdict) == ("better", "undecided")


def test_an_outlier_that_the_sign_flip_test_does_not_mind_leaves_the_comparison_undecided() -> None:
    base = dict.fromkeys(range(10), 80.0) | {0: 80.5}
    gains = [1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 1.1, 0.9, 1.2, 60.0]
    found = compare_pair({seed: base[seed] + gain for seed, gain in enumerate(gains)}, base, POINT)
    assert (found.decided_by, found.wins) == ("t", 10)
    assert found.p_sign_flip < 0.05
    assert found.difference.low < 0
    assert found.verdict == "undecided"


vectors = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=5, max_size=5)


@given(vectors, vectors)
def test_p_of_a_beats_b_is_mann_whitneys_u_over_the_pairs(own: list[float], base: list[float]) -> None:
    found = compare_pair(dict(enumerate(own)), dict(enumerate(base)), POINT)
    assert found.probability_better == pytest.approx(stats.mannwhitneyu(own, base).statistic / 25)
    assert found.wins == sum(a > b for a, b in zip(own, base, strict=True))


@given(vectors, vectors, st.sampled_from([POINT, ANY]))
def test_swapping_the_sides_turns_the_verdict_round(own: list[float], base: list[float], rule: Rule) -> None:
    turned = {"better": "worse", "worse": "better"}
    forth = compare_pair(dict(enumerate(own)), dict(enumerate(base)), rule)
    back = compare_pair(dict(enumerate(base)), dict(enumerate(own)), rule)
    assert turned.get(forth.verdict, forth.verdict) == back.verdict
    assert forth.seeds_needed == back.seeds_needed


@given(st.lists(vectors, min_size=1, max_size=5), vectors)
@settings(max_examples=40)
def test_no_verdict_contradicts_its_own_interval(contestants: list[list[float]], base: list[float]) -> None:
    found = compare_family(family(np.array(contestants)), dict(enumerate(base)), POINT)
    for one in found.values():
        bounds = one.difference
        assert bounds is not None
        if one.verdict == "better":
            assert bounds.low > 0
            assert bounds.value >= POINT.margin
        if one.verdict == "same":
            assert max(abs(bounds.low), abs(bounds.high)) < POINT.margin
        if one.verdict == "undecided":
            assert one.reason


def false_verdicts(seeds: int, families: int, contestants: int, rule: Rule) -> float:
    """The share of families without any true difference in which some contestant is told to be better or worse."""
    generator = np.random.default_rng(seeds)
    wrong = 0
    for _ in range(families):
        luck = generator.normal(0, 1, seeds)
        scores = luck + generator.normal(0, 1, (contestants + 1, seeds))
        found = compare_family(family(scores[1:]), dict(enumerate(scores[0])), rule)
        wrong += any(one.verdict in ("better", "worse") for one in found.values())
    return wrong / families


@pytest.mark.thorough
@pytest.mark.parametrize("seeds", [5, 10])
def test_twenty_techniques_without_a_difference_get_a_false_verdict_in_at_most_one_family_of_twenty(seeds: int) -> None:
    assert false_verdicts(seeds, 400, 20, ANY) <= 0.05


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_a_technique_entered_twice_on_its_own_is_told_apart_as_often_as_the_level_allows(noise: float) -> None:
    """At a noise far above the margin the rate is 5 % exactly; the bound leaves three standard errors of it."""
    generator = np.random.default_rng(7)
    scores = 85 + generator.normal(0, 2, (3000, 1, 5)) + generator.normal(0, noise, (3000, 2, 5))
    found: list[Comparison] = [compare_pair(dict(enumerate(a)), dict(enumerate(b)), POINT) for a, b in scores]
    told_apart = np.mean([one.verdict in ("better", "worse") for one in found])
    assert told_apart <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(found))


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_a_technique_entered_twice_in_a_table_is_the_same_or_undecided_19_times_of_20(noise: float) -> None:
    generator = np.random.default_rng(8)
    effects = np.linspace(0, -30, 6)[:, None]
    agreed = []
    for _ in range(400):
        scores = 85 + generator.normal(0, 2, 5) + generator.normal(0, noise, (7, 5))
        scores[1:] += effects
        found = compare_family(family(scores[1:]), dict(enumerate(scores[0])), POINT)
        agreed.append(found["t0"].verdict in ("same", "undecided"))
    assert np.mean(agreed) >= 0.95


def test_true_differences_of_three_points_are_found_among_twenty_techniques() -> None:
    generator = np.random.default_rng(0)
    hits = []
    for _ in range(20):
        scores = 85 + generator.normal(0, 2, 10) + generator.normal(0, 0.7, (21, 10))
        scores[1] += 3.0
        hits.append(compare_family(family(scores[1:]), dict(enumerate(scores[0])), POINT)["t0"].verdict == "better")
    assert sum(hits) >= 18
