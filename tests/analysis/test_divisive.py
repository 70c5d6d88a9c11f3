"""Shifts of a series are found where they are, held against Otava's values and against plain sums."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.divisive import Rules, best_split, shifts, two_sample_p, welch
from tests.conftest import ROOT

# What apache-otava 0.8.0 says of these series: PairDistanceCalculator(values).get_candidate_change_point(slice(0, n))
# and compute_change_points([*values]), of normal values with a deviation of 0.02 around the levels of LEVELS, from
# np.random.default_rng(number of the series), rounded to four digits.
OTAVA = json.loads((ROOT / "tests/data/otava_reference.json").read_text())
LEVELS = [
    [(1.0, 12), (1.1, 12)],
    [(1.0, 25), (1.15, 10), (1.0, 15)],
    [(1.0, 40)],
    [(1.0, 8), (0.9, 8), (1.2, 8)],
    [(1.0, 60), (1.08, 30)],
    [(1.0 + 0.02 * number, 1) for number in range(20)],
]
LIKE_OTAVA = Rules(margin=0.0, alpha=1e-3, short=0.0, fewest=1, window=50, newest=())
RULES = Rules(margin=0.05)


def positions(values: list[float], rules: Rules = RULES, **paired: list[int]) -> list[int]:
    return [shift.position for shift in shifts(values, rules, **paired)]


def noisy(levels: list[tuple[float, int]], seed: int = 0, sd: float = 0.018) -> list[float]:
    draw = np.random.default_rng(seed)
    return np.concatenate([draw.normal(level, sd, count) for level, count in levels]).tolist()


def energy(left: list[float], right: list[float]) -> float:
    """The statistic as the paper writes it: sums over all pairs."""
    n, m = len(left), len(right)
    cross = math.fsum(abs(one - other) for one in left for other in right) * 2 / (n * m)
    within = [math.fsum(abs(one - other) for one, other in itertools.combinations(part, 2)) for part in (left, right)]
    inner = [total / math.comb(len(part), 2) if len(part) > 1 else 0.0
             for total, part in zip(within, (left, right), strict=True)]  # fmt: skip
    return n * m / (n + m) * (cross - inner[0] - inner[1])


@pytest.mark.parametrize("number", range(len(OTAVA)))
def test_the_statistic_is_that_of_otava(number: int) -> None:
    known = OTAVA[number]
    position, statistic = best_split(np.array(known["values"]))
    assert position == known["split"]
    assert statistic == pytest.approx(known["energy"], rel=1e-12)


@pytest.mark.parametrize("number", range(len(OTAVA) - 1))
def test_with_its_rules_the_changes_are_those_of_otava(number: int) -> None:
    assert positions(OTAVA[number]["values"], LIKE_OTAVA) == OTAVA[number]["changes"]


def test_the_stored_series_have_the_levels_that_are_stated() -> None:
    for known, levels in zip(OTAVA, LEVELS, strict=True):
        means = np.repeat(*map(list, zip(*levels, strict=True)))
        assert np.abs(np.array(known["values"]) - means).max() < 0.08


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9), st.integers(1, 3))
def test_the_best_split_is_the_best_of_all(whole: list[int], fewest: int) -> None:
    values = [float(value) for value in whole]
    n = len(values)
    splits = {
        split: max(energy(values[:split], values[split:end]) for end in range(split + fewest, n + 1))
        for split in range(fewest, n - fewest + 1)
    }
    position, statistic = best_split(np.array(values), fewest)
    if not splits:
        assert (position, statistic) == (0, 0.0)
        return
    assert statistic == pytest.approx(max(splits.values()), abs=1e-9)
    assert splits[position] == pytest.approx(statistic, abs=1e-9)


def test_the_test_and_the_interval_are_those_of_scipy() -> None:
    before, after = (np.array(noisy([(level, count)])) for level, count in ((1.0, 5), (1.1, 9)))
    assert two_sample_p(before, after) == pytest.approx(stats.ttest_ind(before, after).pvalue)
    interval = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    estimate = welch(before, after)
    assert (estimate.low, estimate.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_series_without_a_change_has_no_shift() -> None:
    assert positions([1.0] * 50) == []
    assert positions([]) == positions([1.0]) == positions([1.0, 2.0]) == []
    assert sum(bool(positions(noisy([(0.0, 50)], seed))) for seed in range(40)) == 0


def test_a_shift_is_placed_and_measured() -> None:
    (shift,) = shifts(noisy([(0.0, 20), (0.1, 20)]), RULES)
    assert shift.position == 20
    assert shift.earliest <= 20 <= shift.latest
    assert shift.latest - shift.earliest <= 4
    assert shift.difference.low is not None
    assert shift.difference.high is not None
    assert shift.difference.low < 0.1 < shift.difference.high
    assert shift.p_value < 1e-9


def test_a_shift_that_is_undone_is_two_shifts() -> None:
    assert positions(noisy([(0.0, 15), (0.12, 8), (0.0, 15)])) == [15, 23]


def test_a_shift_smaller_than_the_margin_is_none_however_sure() -> None:
    values = noisy([(0.0, 20), (0.04, 20)], sd=0.002)
    assert positions(values) == []
    assert positions(values, Rules(margin=0.03)) == [20]


def test_the_last_points_are_no_level_until_they_are_enough() -> None:
    values = noisy([(0.0, 20), (0.2, 5)])
    rules = Rules(margin=0.05, fewest=4, newest=())
    assert [positions(values[:length], rules) for length in (21, 22, 23, 24)][-1] == [20]
    assert all(len(values[:length]) - at >= 4 for length in range(21, 26) for at in positions(values[:length], rules))


def test_the_newest_points_are_a_shift_where_the_t_test_of_all_before_says_so() -> None:
    still = noisy([(0.0, 20)])
    some = ([0.07], [0.1], [0.06, 0.07], [-0.1], [0.1, 0.01], [0.1, 0.039], [0.1, 0.045], [-0.045, -0.1], [0.045, 0.05])
    seen = set()
    for newest in (*some, [0.055, 0.056, 0.054], [0.055, 0.056, 0.054, 0.057], [0.1, 0.1, 0.03]):
        apart = abs(np.array(newest) - np.mean(still)) if newest[0] * newest[-1] > 0 else np.zeros(1)
        beyond = apart.mean() >= 0.05 and apart.min() >= 0.04
        level = 1.5e-4 if len(newest) == 1 else 5e-4
        expected = [20] if beyond and stats.ttest_ind(still, newest).pvalue < level else []
        assert positions([*still, *newest], Rules(margin=0.05, alpha=0.0)) == expected
        seen.add((beyond, bool(expected)))
    assert seen == {(False, False), (True, False), (True, True)}
    rules = Rules(margin=0.05)
    assert positions([*still, 0.1], rules) == [20]
    assert positions([*still, 0.1], rules, barred=[20]) == []
    assert positions([*still, 0.1], Rules(margin=0.05, together=20)) == []
    assert positions([*still[:7], 0.3], rules) == [], "seven points are no level to judge a single one by"


def test_known_noise_says_more_of_the_newest_point_than_a_short_level() -> None:
    values = [*noisy([(0.0, 10)]), 0.085]
    known = Rules(margin=0.05, quiet=0.018, prior=20)
    assert positions(values, replace(known, prior=0)) == []
    (shift,) = shifts(values, known)
    before, after = np.array(values[:10]), np.array(values[10:])
    error = max(before.std(ddof=1), 0.018) * math.sqrt(1 / 10 + 1)
    difference = after[0] - before.mean()
    assert two_sample_p(before, after, 0.018, 20) == shift.p_value
    assert shift.p_value == pytest.approx(2 * stats.t.sf(difference / error, 9 + 20))
    assert shift.difference.low == pytest.approx(difference - stats.t.ppf(0.975, 29) * error)


def test_series_that_are_judged_together_share_each_level_the_more_the_fewer_points_it_is_about() -> None:
    alone, together = Rules(margin=0.05), Rules(margin=0.05, together=100)
    assert [alone.level(count) / together.level(count) for count in (1, 2, 3, 4)] == pytest.approx([1e4, 1e3, 100, 100])
    assert alone.settled_level / together.settled_level == pytest.approx(10)
    values = noisy([(0.0, 20), (0.07, 20)], seed=3)
    found = [next(n for n in range(1, 20) if positions(values[: 20 + n], rules)) for rules in (alone, together)]
    assert found[0] < found[1] <= 6


def test_a_level_that_is_quiet_by_chance_does_not_count_as_quieter_than_stated() -> None:
    values = [*noisy([(0.0, 20)], sd=0.001), 0.07]
    assert positions(values, Rules(margin=0.05)) == [20]
    assert positions(values, Rules(margin=0.05, quiet=0.018)) == []


def test_a_short_level_needs_a_larger_shift() -> None:
    values = noisy([(0.0, 30), (0.0555, 8)], sd=0.001)
    found = [bool(positions(values[:length], Rules(margin=0.05, newest=()))) for length in range(31, 39)]
    assert found == [False] * 4 + [True] * 4


def test_one_disturbed_point_is_no_shift() -> None:
    values = noisy([(0.0, 40)])
    values[20] += 0.4
    assert positions(values) == []


def test_a_creep_is_found() -> None:
    values = (np.array(noisy([(0.0, 30)])) + np.maximum(0, np.arange(30) - 20) * math.log(1.02)).tolist()
    assert min(length for length in range(20, 31) if positions(values[:length])) <= 27


def test_what_was_measured_in_turns_overrules_the_test() -> None:
    quiet = noisy([(0.0, 20), (0.02, 2)])
    assert positions(quiet) == []
    assert positions(quiet, known=[20]) == [20]
    shifted = noisy([(0.0, 20), (0.1, 20)])
    assert positions(shifted, barred=range(15, 26)) != [20]
    assert positions(shifted, known=[0, 40, 99]) == [20], "there is no shift before the first point or after the last"


def test_the_position_does_not_depend_on_level_scale_or_sign() -> None:
    values = np.array(noisy([(0.0, 20), (0.2, 15), (0.1, 15)]))
    expected = positions(values.tolist())
    assert expected == [20, 35]
    assert positions((values + 7).tolist()) == expected
    assert positions((-values).tolist()) == expected
    assert positions((3 * values).tolist(), Rules(margin=0.15)) == expected


def test_the_interval_of_a_position_holds_the_change_about_as_often_as_stated() -> None:
    found = [shifts(noisy([(0.0, 20), (0.05, 20)], seed, sd=0.03), Rules(margin=0.03)) for seed in range(200)]
    held = [shift.earliest <= 20 <= shift.latest for (shift,) in (shifted for shifted in found if len(shifted) == 1)]
    assert len(held) > 100
    assert sum(held) >= 0.9 * len(held)
