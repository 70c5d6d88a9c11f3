"""Rounded inputs against their equations in float64, and smoothing, which moves size and changes nothing else."""

from __future__ import annotations

import copy
import pickle

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


UNIT = 2.0**-24  # the unit roundoff of float32


def integers(values: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    largest = 2 ** (bits - 1) - 1
    return np.clip(np.round(values / scale), -largest, largest) * scale


def undecided(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return a step where float32 may round a value at the middle of two integers the other way, 0 elsewhere.

    The quotient is off by at most 20 u of itself: two powers, each within 2 u, and their quotient (5), with which the
    value is divided (1); the same for the largest value, whose part the scale is (7); the quotient of both (1); and
    as much again to spare.
    """
    quotient = np.abs(values / scale)
    found: np.ndarray = scale * (np.abs(quotient % 1 - 0.5) <= 28 * UNIT * quotient)
    return found


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
    scales = size / largest, np.abs(w).max(1, keepdims=True) / largest
    x_integers, w_integers = integers(values, scales[0], bits), integers(w, scales[1], bits)
    bias = linear.bias.double().numpy()
    expected = x_integers @ w_integers.T + bias
    # a term's roundings: either integer times its scale, which is off by 7 u (above) and rounds once more: 16; their
    # product and the sums of 12 terms and a bias: 13
    terms = np.abs(x_integers) @ np.abs(w_integers).T + np.abs(bias)
    steps = undecided(values, scales[0]), undecided(w, scales[1])
    flips = steps[0] @ (np.abs(w_integers) + steps[1]).T + np.abs(x_integers) @ steps[1].T
    assert (np.abs(found - expected) <= 30 * UNIT * terms + flips * (1 + 1e-5)).all()


@given(seed=SEEDS, strength=st.floats(0, 1))
def test_smoothing_alone_changes_nothing(seed, strength) -> None:
    linear, x = problem(seed)
    found = Rounded(strength=strength).unrounded(linear, x)(x).double()
    weight, bias, x = linear.weight.double(), linear.bias.double(), x.double()
    # a term's roundings: what divides the input multiplies the weight, one each; the product; 12 additions
    allowed = 16 * UNIT * (x.abs() @ weight.abs().T + bias.abs())
    assert ((found - (x @ weight.T + bias)).abs() <= allowed).all()


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
    plain, smooth = (Rounded(strength=strength).layer(linear, x)(x) - linear(x) for strength in (0.0, 0.5))
    assert smooth.norm() < 0.5 * plain.norm()


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"weight_bits": 17}, {"per": "row"}, {"strength": 1.5}])
def test_parameters_that_make_no_sense_are_told(wrong) -> None:
    with pytest.raises(UsageError, match="expected"):
        Rounded(**wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("per", ["tensor", "input"])
def test_a_layer_moved_to_another_dtype_keeps_its_integers(per, dtype) -> None:
    linear, x = problem(0)
    layer = Rounded(per=per, strength=0.5).layer(linear, x)
    expected, weight = layer(x), layer.get_buffer("weight").clone()
    moved = copy.deepcopy(layer).to(dtype)
    assert torch.equal(moved.get_buffer("weight"), weight)
    assert moved.get_buffer("bias").dtype == dtype
    assert (moved(x) - expected).norm() < 6e-3 * expected.norm()
    found = moved(x.to(dtype))
    assert found.dtype == dtype
    assert (found.double() - expected.double()).norm() < 2e-2 * expected.norm()


def test_a_layer_loads_the_state_of_no_other_bits() -> None:
    linear, x = problem(0)
    eight, four = (Rounded(bits=bits, weight_bits=bits, per="input").layer(linear, x) for bits in (8, 4))
    before = four(x)
    with pytest.raises(RuntimeError, match=r"Layer: its state is of \[8, 8\] bits .* this layer is of \[4, 4\]"):
        four.load_state_dict(eight.state_dict())
    with pytest.raises(RuntimeError, match="its state is of unknown bits"):
        four.load_state_dict({name: value for name, value in eight.state_dict().items() if "extra" not in name})
    assert torch.equal(four(x), before)
    other = Rounded(bits=8, weight_bits=8, per="input").layer(nn.Linear(12, 7).requires_grad_(False), x)
    other.load_state_dict(eight.state_dict())
    for again in (other, copy.deepcopy(eight), pickle.loads(pickle.dumps(eight))):
        assert torch.equal(again(x), eight(x))
