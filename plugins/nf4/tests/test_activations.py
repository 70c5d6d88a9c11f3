"""Rounded inputs against their equations in float64, and smoothing, which moves size and changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_nf4.activations import Rounded
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.api import UsageError

SEEDS = st.integers(0, 2**31)


def problem(seed: int) -> tuple[nn.Linear, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    linear = nn.Linear(12, 7)
    with torch.no_grad():
        linear.weight.normal_(generator=draw)
        linear.bias.normal_(generator=draw)
    x = torch.randn(20, 12, generator=draw)
    x[:, 3] *= 100
    return linear.requires_grad_(False), x


def integers(values: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    largest = 2 ** (bits - 1) - 1
    return np.clip(np.round(values / scale), -largest, largest) * scale


@given(
    seed=SEEDS,
    bits=st.sampled_from([4, 8]),
    per=st.sampled_from(["tensor", "input"]),
    strength=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_a_layer_is_its_equations(seed, bits, per, strength) -> None:
    linear, x = problem(seed)
    found = Rounded(bits=bits, weight_bits=bits, per=per, strength=strength).layer(linear, x)(x).numpy()
    w, values, largest = linear.weight.double().numpy(), x.double().numpy(), 2 ** (bits - 1) - 1
    smoothing = np.ones(12)
    if strength:  # SmoothQuant, equation 4
        smoothing = np.abs(values).max(0) ** strength / np.abs(w).max(0) ** (1 - strength)
    values, w = values / smoothing, w * smoothing
    size = np.abs(values).max(1, keepdims=True) if per == "input" else np.abs(values).max()
    expected = integers(values, size / largest, bits) @ integers(w, np.abs(w).max(1, keepdims=True) / largest, bits).T
    expected += linear.bias.double().numpy()
    # float32 may round a value at the middle of two integers the other way: one step of one input or weight
    step = (np.abs(values).max() * np.abs(w).max()) * 2 / largest
    error = np.abs(found - expected)
    assert np.median(error) <= 1e-5 * np.abs(expected).max()
    assert error.max() <= step


@given(seed=SEEDS, strength=st.floats(0, 1))
def test_smoothing_alone_changes_nothing(seed, strength) -> None:
    linear, x = problem(seed)
    found = Rounded(strength=strength).unrounded(linear, x)(x)
    torch.testing.assert_close(found, linear(x), rtol=1e-4, atol=1e-3)


@given(seed=SEEDS)
def test_half_the_strength_makes_inputs_and_weights_equally_large_by_channel(seed) -> None:
    linear, x = problem(seed)
    layer = Rounded(strength=0.5).unrounded(linear, x)
    inputs = (x / layer.get_buffer("smoothing")).abs().amax(0)
    torch.testing.assert_close(inputs, layer.get_buffer("weight").abs().amax(0))


def test_a_channel_that_is_never_active_is_left_alone() -> None:
    linear, x = problem(0)
    x[:, 5] = 0
    layer = Rounded(strength=0.5).layer(linear, x)
    assert layer.get_buffer("smoothing")[5] == 1
    assert layer(x).isfinite().all()


def test_smoothing_lowers_the_error_that_an_outlying_channel_makes() -> None:
    linear, x = problem(0)
    plain, smooth = (Rounded(strength=one).layer(linear, x)(x) - linear(x) for one in (0.0, 0.5))
    assert smooth.norm() < 0.5 * plain.norm()


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"weight_bits": 17}, {"per": "row"}, {"strength": 1.5}])
def test_parameters_that_make_no_sense_are_told(wrong) -> None:
    with pytest.raises(UsageError, match="expected"):
        Rounded(**wrong)
