"""Measures of balance are what the papers define."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.workloads.route_balance import entropy, excess, max_violation, variation

LOADS = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)


@given(LOADS)
def test_they_equal_independent_definitions(load: list[int]) -> None:
    values = np.array(load, dtype=np.float64)
    found = torch.tensor(load, dtype=torch.float64)
    assert max_violation(found).item() == pytest.approx(max(load) / values.mean() - 1)
    assert variation(found).item() == pytest.approx(stats.variation(values))
    assert entropy(found).item() == pytest.approx(stats.entropy(values, base=len(load)), abs=1e-12)
    assert excess(found).item() == pytest.approx(sum(max(0.0, one - values.mean()) for one in load))


@pytest.mark.parametrize("experts", [2, 8])
def test_even_loads_and_collapse_are_the_ends(experts: int) -> None:
    even, collapse = torch.ones(experts), torch.eye(experts)[0]
    assert [max_violation(even).item(), variation(even).item(), entropy(even).item()] == pytest.approx([0, 0, 1])
    assert max_violation(collapse).item() == pytest.approx(experts - 1)
    assert variation(collapse).item() == pytest.approx((experts - 1) ** 0.5)
    assert entropy(collapse).item() == 0


def test_one_expert_is_in_balance() -> None:
    one = torch.tensor([5.0])
    assert [max_violation(one).item(), variation(one).item(), entropy(one).item()] == [0, 0, 1]


def test_no_load_is_no_violation() -> None:
    assert max_violation(torch.zeros(3)).item() == variation(torch.zeros(3)).item() == 0
