"""The moderated paired t test against the definition, written out contestant by contestant, and against SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from harness.analysis.moderated import inverse_trigamma, moderate, squared_correlation


def drawn(contestants: int, seeds: int, seed: int = 0, *, tables: int | None = None) -> np.ndarray:
    """Differences whose variances differ, and which share the noise of a baseline."""
    generator = np.random.default_rng(seed)
    shape = (contestants,) if tables is None else (tables, contestants)
    deviations = np.sqrt(3.3 / generator.chisquare(3.3, (*shape, 1)))
    return deviations * generator.normal(size=(*shape, seeds)) - generator.normal(size=(*shape[:-1], 1, seeds))


def by_definition(rows: list[np.ndarray]) -> tuple[list[float], list[float]]:
    """The variances and degrees of freedom by the formulas of docs/statistics.md; a row is shorter where seeds lack."""
    variances = [np.var(row, ddof=1) for row in rows]
    nus = [len(row) - 1 for row in rows]
    logs = [
        math.log(variance) - special.digamma(nu / 2) + math.log(nu / 2)
        for variance, nu in zip(variances, nus, strict=True)
    ]
    squares = []
    for first, second in itertools.combinations(rows, 2):
        shared = min(len(first), len(second))
        square = stats.pearsonr(first[:shared], second[:shared]).statistic ** 2
        squares.append((square - 1 / (shared - 1)) / (1 - 1 / (shared - 1)))
    correlation = min(max(np.mean(squares), 0.0), 0.9)
    excess = np.var(logs, ddof=1) - np.mean([special.polygamma(1, nu / 2) for nu in nus]) * (1 - correlation)
    degrees, common = math.inf, math.exp(np.mean(logs))
    if excess > 0:
        half = float(inverse_trigamma(np.array(excess)))
        degrees, common = 2 * half, math.exp(np.mean(logs) + special.digamma(half) - math.log(half))
    weight = min(len(rows) / 12, 1.25) if len(rows) >= 5 else 0
    borrowed = [min(degrees, weight * nu) for nu in nus]
    shrunk = [(k * common + nu * own) / (k + nu) for k, nu, own in zip(borrowed, nus, variances, strict=True)]
    tested = [max(own, other) for own, other in zip(variances, shrunk, strict=True)]
    return tested, [nu + k for nu, k in zip(nus, borrowed, strict=True)]


@given(st.floats(1e-6, 1e6))
def test_the_inverse_of_trigamma_inverts_it(value: float) -> None:
    assert special.polygamma(1, inverse_trigamma(np.array([value])))[0] == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("value", [0.3, 1.0, 5.0])
def test_the_inverse_of_trigamma_is_that_of_its_integral(value: float) -> None:
    """Trigamma is the integral of t exp(-xt) / (1 - exp(-t)) over all t above 0."""
    x = float(inverse_trigamma(np.array([value]))[0])
    found = integrate.quad(lambda t: t * math.exp(-x * t) / -math.expm1(-t), 0, math.inf)[0]
    assert found == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("contestants", [4, 5, 12, 22])
@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_variances_and_degrees_are_those_of_the_formulas(contestants: int, seeds: int) -> None:
    for seed in range(5):
        rows = drawn(contestants, seeds, seed)
        found = moderate(rows)
        variances, degrees = by_definition(list(rows))
        assert found.variance == pytest.approx(np.array(variances))
        assert found.degrees == pytest.approx(np.array(degrees))


def test_a_contestant_with_fewer_seeds_counts_with_its_own_degrees_of_freedom() -> None:
    rows = drawn(12, 10, 3)
    lengths = [10, 10, 5, 5, 5, 10, 10, 4, 10, 10, 5, 10]
    for row, length in zip(rows, lengths, strict=True):
        row[length:] = np.nan
    found = moderate(rows)
    variances, degrees = by_definition([row[:length] for row, length in zip(rows, lengths, strict=True)])
    assert found.variance == pytest.approx(np.array(variances))
    assert found.degrees == pytest.approx(np.array(degrees))


def test_p_and_interval_are_those_of_a_t_test_with_these_degrees_of_freedom() -> None:
    rows = drawn(12, 5, 1) + 1.0
    found = moderate(rows)
    error = np.sqrt(found.variance / 5)
    assert found.p() == pytest.approx(2 * stats.t.sf(np.abs(rows.mean(axis=1)) / error, found.degrees))
    assert found.half_width(0.95) == pytest.approx(stats.t.ppf(0.975, found.degrees) * error)


def test_tables_of_a_batch_are_moderated_each_on_its_own() -> None:
    tables = drawn(10, 5, 2, tables=4)
    found = moderate(tables)
    for index, table in enumerate(tables):
        assert found.p()[index] == pytest.approx(moderate(table).p())


def test_no_variance_is_below_the_contestants_own_and_the_prior_never_outweighs_its_bound() -> None:
    found = moderate(drawn(22, 5, tables=200))
    assert (found.variance >= found.own).all()
    assert (found.degrees <= 4 * 2.25 + 1e-9).all()
    assert (found.degrees > 4).all()


def test_a_contestant_without_spread_is_neither_moderated_nor_part_of_the_prior() -> None:
    rows = drawn(11, 5, 4)
    beside = moderate(np.vstack([np.full(5, 2.0), rows]))
    alone = moderate(rows)
    assert beside.variance[1:] == pytest.approx(alone.variance)
    assert (beside.degrees[0], beside.p()[0], bool(beside.moderate[0])) == (4, 1.0, False)


@pytest.mark.filterwarnings("error")
def test_a_contestant_that_diverged_leaves_the_others_as_they_are_without_it() -> None:
    sound = drawn(8, 6)
    for far in (1e200, 1e308):
        diverged = far * np.array([1, -1, 1, 1, 1, -1])
        both = moderate(np.vstack([sound, diverged]))
        assert both.variance[:-1] == pytest.approx(moderate(sound).variance)


def test_two_seeds_are_too_few_to_be_moderated() -> None:
    rows = drawn(22, 2, 5)
    assert moderate(rows).p() == pytest.approx(stats.ttest_1samp(rows, 0, axis=1).pvalue)


def test_the_correlation_of_complete_seeds_is_that_of_all_pairs() -> None:
    draw = np.random.default_rng(5)
    values = draw.normal(size=(2, 7, 5)) + draw.normal(size=(2, 1, 5))
    centred = values - values.mean(axis=-1, keepdims=True)
    taking_part = np.ones((2, 7), dtype=bool)
    taking_part[1, 3] = False
    lacking = np.concatenate([centred, np.zeros((2, 7, 1))], axis=-1)  # a seed that nobody has, so pairs are counted
    pairwise = squared_correlation(lacking, lacking != 0, taking_part)
    assert pairwise.min() > 0
    assert squared_correlation(centred, np.ones_like(centred, dtype=bool), taking_part) == pytest.approx(pairwise)
