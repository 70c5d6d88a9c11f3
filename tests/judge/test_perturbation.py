"""A perturbed start is a rounding error away, for every type of number and whatever else is drawn."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from harness.api import CaseContext
from harness.judge.perturbation import perturb_start


def context(*, perturbed: bool, seed: int = 0) -> CaseContext:
    return CaseContext(
        seed=seed, device="cpu", settings={}, cache=Path(), phase=lambda _: nullcontext(), perturbed=perturbed
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_each_number_moves_by_one_or_two_units_in_the_last_place_and_zero_stays(dtype: torch.dtype) -> None:
    values = torch.cat([torch.randn(500), torch.zeros(20)]).to(dtype).requires_grad_()
    before = values.detach().clone()
    perturb_start([values], context(perturbed=True))
    moved = (values.detach() - before).double().abs()
    unit = torch.finfo(dtype).eps * before.double().abs()
    assert (moved[:500] > 0).all()
    assert (moved <= 2 * unit).all(), "an epsilon of a number is one to two of its units, and rounding adds half of one"
    assert (moved[500:] == 0).all()
    assert {bool(up) for up in values.detach()[:500] > before[:500]} == {True, False}


def test_without_a_perturbed_context_nothing_moves_and_no_draw_is_taken_either_way() -> None:
    values, counts = torch.randn(50), torch.arange(5)
    before, state = values.clone(), torch.get_rng_state()
    perturb_start([values], context(perturbed=False))
    assert torch.equal(values, before)
    perturb_start([values, counts], context(perturbed=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(counts, torch.arange(5)), "whole numbers are not rounded"


def test_the_same_seed_is_perturbed_in_the_same_way() -> None:
    start = torch.randn(50)
    one, again, other = start.clone(), start.clone(), start.clone()
    perturb_start([one], context(perturbed=True, seed=3))
    perturb_start([again], context(perturbed=True, seed=3))
    perturb_start([other], context(perturbed=True, seed=4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
