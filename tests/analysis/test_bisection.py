"""The search of a commit: what it asks, what it concludes, and when a mean is on one side of half the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.bisection import (
    ERROR,
    MOST_UNDECIDED,
    Untold,
    half_way,
    level_of,
    search,
    side_of,
    side_of_value,
    steps,
)

BROKEN = Untold(reason="it does not build")
OPEN = Untold(reason="undecided", undecided=True)


def asking(first: int, untold: dict[int, Untold]):
    """Return what answers about a change at commit ``first``, and the commits that it was asked about."""
    asked: list[int] = []

    def ask(number: int):
        asked.append(number)
        return untold.get(number) or ("after" if number >= first else "before")

    return ask, asked


@given(st.data())
def test_any_change_is_found_with_as_few_answers_as_a_bisection_needs(data) -> None:
    last = data.draw(st.integers(1, 200))
    first = data.draw(st.integers(1, last))
    broken = data.draw(st.sets(st.integers(1, last - 1), max_size=9)) if last > 1 else set()
    ask, asked = asking(first, dict.fromkeys(broken, BROKEN))
    found = search(last, ask)
    assert len(found.answers) <= steps(last) == math.ceil(math.log2(last))
    assert len(asked) == len(set(asked)) == len(found.answers) + len(found.untold)
    assert first in found.suspects
    assert all(number in broken for number in [*found.suspects][:-1])
    if not broken:
        assert [*found.suspects] == [first]


def test_commits_that_give_no_answer_leave_a_range() -> None:
    ask, asked = asking(5, {4: BROKEN, 5: BROKEN, 3: BROKEN})
    found = search(8, ask)
    assert (found.low, found.high) == (2, 6)
    assert [*found.suspects] == [3, 4, 5, 6]
    assert {*found.untold} == {3, 4, 5}
    assert not {0, 8} & {*asked}


def test_a_search_whose_comparisons_stay_open_ends_early() -> None:
    ask, asked = asking(50, dict.fromkeys(range(1, 99), OPEN))
    found = search(99, ask)
    assert len(asked) == MOST_UNDECIDED
    assert (found.low, found.high) == (0, 99)


def test_neighbours_have_nothing_between_them_to_ask() -> None:
    found = search(1, lambda _: pytest.fail("there is no commit to ask about"))
    assert [*found.suspects] == [1]


def test_the_error_of_a_search_is_shared_by_all_looks_of_all_its_tests() -> None:
    # 16 commits: the whole difference, 4 answers and 3 that stay open, at 3 looks each
    assert level_of(16) == pytest.approx(ERROR / 24)
    assert level_of(1) == pytest.approx(ERROR / 12)


def noise(n: int, mean: float, sd: float = 0.01, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, sd, n))


@pytest.mark.parametrize("direction", [1, -1])
def test_a_mean_is_before_or_after_half_the_way_in_the_direction_of_the_change(direction: int) -> None:
    middle = direction * 0.05
    assert side_of(noise(8, 0.0), middle, 0.002) == "before"
    assert side_of(noise(8, direction * 0.1), middle, 0.002) == "after"
    assert side_of(noise(8, middle), middle, 0.002) is None
    assert side_of([0.0, 0.1], middle, 0.002) is None, "two rounds are too few"


@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=12), st.floats(0.01, 0.1), st.floats(0.0005, 0.05))
def test_the_side_is_that_of_a_one_sided_t_test(ratios: list[float], middle: float, level: float) -> None:
    if np.std(ratios) < 1e-6:
        return
    after = stats.ttest_1samp(ratios, middle, alternative="greater").pvalue < level
    before = stats.ttest_1samp(ratios, middle, alternative="less").pvalue < level
    assert side_of(ratios, middle, level) == ("after" if after else "before" if before else None)


def test_half_the_way_is_known_where_the_one_sided_limit_is_beyond_it() -> None:
    level = 0.002
    for n, mean in ((4, 0.1), (4, 0.02), (8, 0.04), (16, -0.03), (16, 0.005)):
        ratios = noise(n, mean)
        reach = stats.t.ppf(1 - level, n - 1) * np.std(ratios, ddof=1) / math.sqrt(n)
        known = abs(np.mean(ratios)) - reach > abs(np.mean(ratios)) / 2
        assert half_way(ratios, level) == (pytest.approx(np.mean(ratios) / 2) if known else None)
    assert half_way([0.1, 0.1], level) is None
    assert half_way([0.0] * 8, level) is None


def test_equal_ratios_decide_where_their_number_could_by_signs_alone() -> None:
    assert side_of([0.1] * 8, 0.05, 0.005) == "after"
    assert side_of([0.1] * 7, 0.05, 0.005) is None


@pytest.mark.parametrize(
    ("value", "side"), [(16, "before"), (19, "before"), (20, "after"), (24, "after"), (30, "after"), (10, "before")]
)
def test_a_value_that_the_code_determines_is_on_the_nearer_side(value: float, side: str) -> None:
    assert side_of_value(value, base=16, head=24) == side
