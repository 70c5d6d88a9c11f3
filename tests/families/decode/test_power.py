"""The power that the exactness gate states: simulated decoders at that distance are found, and near ones are not."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom, chi2, ncx2

from harness.families.decode import power
from harness.families.decode.checks import ALPHA, _p_value, examine, joint
from harness.families.decode.contract import Sampling
from harness.families.decode.tables import probabilities, tables
from harness.families.decode.workloads import finds
from tests.families.decode.test_checks import Plain

TRIALS = 300
TESTS = 10
LEVEL = ALPHA / TESTS


def cells(draws, apart=0.7):
    """Return the expected draws of the gate's cells, for texts of four tokens."""
    table = probabilities(tables(torch.Generator().manual_seed(0), apart=apart).target, Sampling())
    return joint(torch.zeros(draws, 4, dtype=torch.long), [0, 1, 2], table)[1]


def found(expected, distance):
    """Return in how many of the simulated gates a decoder is found whose chances are p (1 + d) or p (1 - d).

    Of all decoders at a total variation it is the one that is hardest to find: it errs alike in every cell.
    """
    draws = round(float(expected.sum()))
    shares = expected / draws
    order = torch.randperm(len(shares), generator=torch.Generator().manual_seed(1))
    more = torch.zeros(len(shares), dtype=torch.bool)
    more[order] = shares[order].cumsum(0) <= 0.5
    half = float(shares[more].sum())
    wrong = shares * torch.where(more, 1 + distance / half, 1 - distance / (1 - half))
    assert float(0.5 * (wrong - shares).abs().sum()) == pytest.approx(distance)
    sampler = torch.Generator().manual_seed(2)
    drawn = torch.multinomial(wrong.expand(TRIALS, -1), draws, replacement=True, generator=sampler)
    counts = torch.stack([torch.bincount(row, minlength=len(shares)).double() for row in drawn])
    return sum(_p_value(observed, expected) < LEVEL for observed in counts)


@pytest.mark.parametrize("draws", [200, 800])
def test_a_decoder_at_the_stated_distance_is_found_and_one_at_half_of_it_is_not(draws):
    expected = cells(draws)
    stated = power.detectable(expected, LEVEL)
    fewest = binom.ppf(1e-3, TRIALS, power.POWER)
    assert found(expected, stated) >= fewest
    assert found(expected, stated / 2) < TRIALS / 2
    assert found(expected, 0.0) == 0


def test_an_error_in_a_few_cells_is_found_at_a_smaller_distance():
    expected = cells(800)
    stated = power.detectable(expected, LEVEL)
    rarest = expected.argsort()[:3]
    wrong = expected.clone()
    wrong[rarest] *= 6
    wrong *= expected.sum() / wrong.sum()
    distance = float(0.5 * (wrong - expected).abs().sum() / expected.sum())
    assert distance < stated / 2
    assert float(chi2.sf(((wrong - expected).square() / expected).sum(), len(expected) - 1)) < LEVEL


def test_the_noncentrality_gives_the_stated_chance():
    for freedom in (1, 10, 100):
        needed = power.noncentrality(freedom, LEVEL)
        assert ncx2.sf(chi2.isf(LEVEL, freedom), freedom, needed) == pytest.approx(power.POWER)


def test_more_draws_find_a_smaller_distance_and_the_note_says_so():
    few, many = (examine(Plain(), Sampling(), draws=draws, seed=0).detectable for draws in (40, 400))
    assert 0 < many < few
    assert finds(many) == f"it finds a total variation of {many:.2g} % or more with a chance of 95 %"


def test_where_only_one_text_is_right_another_is_found_as_soon_as_it_is_drawn():
    verdict = examine(Plain(), Sampling(temperature=0.0), draws=50, seed=0)
    share = verdict.detectable / 100
    assert 1 - (1 - share) ** 50 == pytest.approx(power.POWER)


def test_too_few_draws_for_a_test_are_said_to_find_nothing():
    verdict = examine(Plain(), Sampling(), draws=2, seed=0)
    assert verdict.exact
    assert finds(verdict.detectable) == "with so few draws it finds no wrong distribution"
