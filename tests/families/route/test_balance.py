"""Measures of balance are what the papers define."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.families.route.balance import entropy, excess, max_violation, variation
from harness.families.route.experts import Passage
from harness.families.route.training import Quality, balance

LOADS = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)


@given(LOADS)
def test_they_equal_independent_definitions(load: list[int]) -> None:
    values = np.array(load, dtype=np.float64)
    found = torch.tensor(load, dtype=torch.float64)
    assert max_violation(found).item() == pytest.approx(max(load) / values.mean() - 1)
    assert variation(found).item() == pytest.approx(stats.variation(values))
    assert entropy(found).item() == pytest.approx(stats.entropy(values, base=len(load)), abs=1e-12)
    assert excess(found).item() == pytest.approx(sum(max(0.0, count - values.mean()) for count in load))


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


def passage(load: list[float], *, lost: int = 0, untouched: int = 0) -> Passage:
    return Passage(
        loss=None,
        load=torch.tensor(load),
        rows=int(sum(load)) - lost,
        assigned=int(sum(load)),
        lost=lost,
        tokens=10,
        untouched=lambda: untouched,
    )


class TestLayers:
    def test_two_collapsed_layers_are_not_balanced_together(self) -> None:
        layers = [[passage([10.0, 0.0])], [passage([0.0, 10.0])]]
        found = balance(Quality(loss=0, accuracy=0, passages=layers))
        assert found["max_violation"] == found["global_max_violation"] == 1
        assert found["load_entropy"] == 0

    def test_batches_collapsed_in_turn_are_balanced_over_all_of_them(self) -> None:
        found = balance(Quality(loss=0, accuracy=0, passages=[[passage([10.0, 0.0]), passage([0.0, 10.0])]]))
        assert found["max_violation"] == 1
        assert found["global_max_violation"] == 0

    def test_the_worst_layer_counts_in_everything(self) -> None:
        even, uneven = passage([5.0, 5.0], lost=3, untouched=2), passage([9.0, 1.0], lost=1, untouched=4)
        found = balance(Quality(loss=0, accuracy=0, passages=[[even], [uneven]]))
        assert found == pytest.approx(
            {
                "max_violation": 0.8,
                "global_max_violation": 0.8,
                "load_variation": 0.8,
                "load_entropy": stats.entropy([9, 1], base=2),
                "dropped_tokens": 40,
                "dropped_assignments": 30,
            }
        )
