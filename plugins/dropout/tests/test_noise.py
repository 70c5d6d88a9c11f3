"""Masks and noise: frequencies, types, and where the draws come from."""

from __future__ import annotations

import math

import pytest
import torch
from harness_dropout.noise import kept, normal
from hypothesis import given
from hypothesis import strategies as st

RATES = st.floats(0.0, 1.0)
SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=4)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@given(keep=RATES, shape=SHAPES, dtype=DTYPES, seed=st.integers(0, 2**31))
def test_a_mask_is_the_uniform_draw_below_the_keep_probability(keep, shape, dtype, seed) -> None:
    draw, again = (torch.Generator().manual_seed(seed) for _ in range(2))
    mask = kept(shape, keep, torch.empty((), dtype=dtype), draw)
    uniform = torch.rand(shape, generator=again).double().numpy()
    assert mask.dtype == dtype
    assert (mask.double().numpy() == (uniform < torch.tensor(keep).item())).all()


@given(keep=st.floats(0.05, 0.95), seed=st.integers(0, 2**31))
def test_values_are_kept_as_often_as_asked(keep, seed) -> None:
    count = 20_000
    mask = kept((count,), keep, torch.empty(()), torch.Generator().manual_seed(seed))
    assert abs(mask.mean().item() - keep) < 5 * math.sqrt(keep * (1 - keep) / count)


def test_each_unit_has_a_probability_of_its_own() -> None:
    keep = torch.tensor([0.0, 0.25, 0.5, 1.0])
    mask = kept((40_000, 4), keep, keep, torch.Generator().manual_seed(1))
    assert mask[:, 0].sum() == 0
    assert mask[:, 3].all()
    torch.testing.assert_close(mask.mean(0), keep, rtol=0, atol=0.015)


@given(shape=SHAPES, dtype=DTYPES, seed=st.integers(0, 2**31))
def test_normal_noise_takes_after_its_tensor(shape, dtype, seed) -> None:
    draw, again = (torch.Generator().manual_seed(seed) for _ in range(2))
    noise = normal(torch.zeros(shape, dtype=dtype), draw)
    assert noise.dtype == dtype
    assert torch.equal(noise, torch.randn(shape, generator=again).to(dtype))


@pytest.mark.parametrize("draw_one", [lambda x, g: kept(x.shape, 0.5, x, g), normal])
def test_torchs_global_generator_is_left_alone(draw_one) -> None:
    before = torch.get_rng_state()
    draw_one(torch.zeros(9), torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
