"""Times taken in turns: what a round says, and what the rounds say together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.times import LOOKS, TIME_MARGIN, early_looks, judge_times, round_of, unsettled

QUIET = 0.01
seconds = st.floats(1e-6, 10.0)


def noise(n: int, shift: float = 0.0, *, sd: float = QUIET, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(shift, sd, n))


def turns(*values: float, interrupted: tuple[int, ...] = ()) -> list[tuple[float, bool]]:
    return [(value, number in interrupted) for number, value in enumerate(values)]


def judged(ratios: list[float], **others: list[float]):
    return judge_times({"": ratios, **others})[""]


def test_a_round_is_the_median_of_its_turns_log_ratios() -> None:
    found = round_of(turns(2.0, 4.0, 3.0), turns(1.0, 1.0, 1.0))
    assert found is not None
    assert found.log_ratio == pytest.approx(math.log(3.0))


def test_turns_in_which_either_side_was_interrupted_are_left_out_and_counted() -> None:
    found = round_of(turns(2.0, 2.0, 90.0, 2.0), turns(1.0, 1.0, 1.0, 0.01, interrupted=(3,)))
    assert found is not None
    assert (found.turns, found.interrupted) == (4, 1)
    calm = round_of(turns(1.0, 90.0, 1.0, 80.0, interrupted=(1, 3)), turns(1.0, 1.0, 1.0, 1.0))
    assert calm is not None
    assert calm.log_ratio == 0.0


def test_where_most_turns_were_interrupted_all_count() -> None:
    found = round_of(turns(1.0, 2.0, 2.0, interrupted=(1, 2)), turns(1.0, 1.0, 1.0))
    assert found is not None
    assert found.log_ratio == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_a_turn_without_a_time_says_nothing(wrong: float) -> None:
    assert round_of(turns(wrong), turns(1.0)) is None
    assert round_of([], []) is None


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=9))
def test_swapping_the_sides_turns_the_ratio_round(pairs) -> None:
    own, other = turns(*(one for one, _ in pairs)), turns(*(two for _, two in pairs))
    there, back = round_of(own, other), round_of(other, own)
    assert there is not None
    assert back is not None
    assert there.log_ratio == pytest.approx(-back.log_ratio, abs=1e-9)


def test_a_slowdown_is_worse_a_speedup_better_and_neither_is_the_same() -> None:
    assert judged(noise(10, math.log(1.1))).verdict == "worse"
    assert judged(noise(10, math.log(0.9))).verdict == "better"
    assert judged(noise(10)).verdict == "same"


def test_the_ratio_is_the_geometric_mean_with_its_t_interval() -> None:
    ratios = noise(8, 0.2, sd=0.05)
    found = judged(ratios).ratio
    assert found is not None
    reference = stats.ttest_1samp(ratios, 0.0).confidence_interval(0.95)
    assert found.value == pytest.approx(stats.gmean(np.exp(ratios)))
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(reference)))


def test_p_is_the_t_test_s_times_the_looks_the_families_and_the_comparisons() -> None:
    ratios = noise(5, 0.02)
    p = stats.ttest_1samp(ratios, 0.0).pvalue
    found = judge_times({"": ratios}, families=1, looks=1)[""]
    many = judge_times({"": ratios, "other": noise(5, seed=1)}, families=2, looks=2)[""]
    assert found.p_holm == pytest.approx(p)
    assert many.p_holm == pytest.approx(2 * 2 * 2 * p)


def test_rounds_without_any_spread_are_judged_by_their_number() -> None:
    assert judged([0.2] * 12).verdict == "worse"
    assert judged([0.2] * 5).verdict == "undecided"
    assert judged([0.0] * 5).verdict == "same"


@given(st.integers(3, 200))
def test_early_looks_are_before_the_end_and_a_few_rounds_apart(rounds: int) -> None:
    looks = early_looks(rounds)
    assert all(look >= 1 for look in looks)  # a look at nothing would find everything settled
    assert len(looks) == len(LOOKS) - 1 or rounds < 4
    assert all(0 <= look < rounds for look in looks)


def test_a_significant_change_below_the_margin_is_the_same() -> None:
    assert judged(noise(12, TIME_MARGIN / 2, sd=0.002)).verdict == "same"


def test_a_large_but_uncertain_change_is_undecided() -> None:
    found = judged(noise(6, 0.15, sd=0.8))
    assert (found.verdict, found.reason) == ("undecided", "more rounds needed")


def test_two_rounds_decide_nothing() -> None:
    assert judged([0.5, 0.5001]).verdict == "undecided"
    assert judged([]).reason == "not timed"


def test_the_first_look_goes_on_with_what_is_undecided_and_all_that_is_measured_with_it() -> None:
    rounds = {
        ("slow", "train"): noise(5, math.log(1.3)),
        ("calm", "train"): noise(5),
        ("wild", "train"): noise(5, sd=0.3),
        ("wild", "infer"): noise(5),
    }
    assert unsettled(rounds) == {"wild"}


@pytest.mark.parametrize("family", [1, 40])
def test_noise_alone_is_seldom_called_worse_however_many_are_compared(family: int) -> None:
    """With the margin out of the way, so that it is the correction that is tested."""
    generator = np.random.default_rng(7)
    trials = 200
    flagged = 0
    for _ in range(trials):
        rounds = {number: list(generator.standard_t(3, 10) * 0.03) for number in range(family)}
        found = judge_times(rounds, looks=1, margin=1e-9)
        flagged += any(pace.verdict in ("worse", "better") for pace in found.values())
    assert flagged / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)
