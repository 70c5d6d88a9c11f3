"""Equations of noise on units, against NumPy in float64 with the same draws, and against torch's own layers."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from harness_dropout.activations import (
    Alpha,
    AlphaLayer,
    DropoutLayer,
    GaussianLayer,
    ImportanceLayer,
    SrivastavaLayer,
    StandoutLayer,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from harness.api import UsageError
from harness.families.regularize.models import Mlp

RATES = st.floats(0.01, 0.95)
SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4)
DTYPES = st.sampled_from([torch.float32, torch.float64])
SEEDS = st.integers(0, 2**31)
PLAIN = {"dropout": DropoutLayer, "srivastava": SrivastavaLayer, "gaussian": GaussianLayer, "alpha": AlphaLayer}
COUNT = 40_000


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def values(shape, dtype, seed):
    return torch.randn(shape, generator=drawn(seed + 1), dtype=torch.float64).to(dtype)


def mask_of(shape, keep, seed):
    return (torch.rand(shape, generator=drawn(seed)) < keep).double().numpy()


def same(found, expected):
    tolerance = 1e-5 if found.dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance)


@given(rate=RATES, shape=SHAPES, dtype=DTYPES, seed=SEEDS)
def test_dropout_is_x_m_over_q(rate, shape, dtype, seed) -> None:
    x = values(shape, dtype, seed)
    same(DropoutLayer(rate, drawn(seed))(x), x.double().numpy() * mask_of(shape, 1 - rate, seed) / (1 - rate))


@given(rate=RATES, seed=SEEDS)
def test_dropout_is_torchs_where_the_masks_agree(rate, seed) -> None:
    x = values((64, 32), torch.float32, seed).abs() + 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs = functional.dropout(x, rate)
    ours = DropoutLayer(rate, drawn(seed))(x)
    both = (theirs != 0) & (ours != 0)
    torch.testing.assert_close(ours[both], theirs[both])


@given(rate=RATES, shape=SHAPES, dtype=DTYPES, seed=SEEDS)
def test_srivastava_equals_inverted_dropout_after_rescaling(rate, shape, dtype, seed) -> None:
    x = values(shape, dtype, seed)
    layer = SrivastavaLayer(rate, drawn(seed))
    same(layer(x) / (1 - rate), DropoutLayer(rate, drawn(seed))(x).double().numpy())
    same(layer.eval()(x), x.double().numpy() * (1 - rate))


@given(rate=RATES, shape=SHAPES, dtype=DTYPES, seed=SEEDS)
def test_gaussian_multiplies_by_one_plus_noise_of_variance_p_over_q(rate, shape, dtype, seed) -> None:
    x = values(shape, dtype, seed)
    noise = torch.randn(shape, generator=drawn(seed)).double().numpy()
    expected = x.double().numpy() * (1 + np.sqrt(rate / (1 - rate)) * noise)
    same(GaussianLayer(rate, drawn(seed))(x), expected)


@given(rate=RATES, shape=SHAPES, dtype=DTYPES, seed=SEEDS)
def test_alpha_is_an_affine_map_of_units_sent_to_the_floor(rate, shape, dtype, seed) -> None:
    x, q = values(shape, dtype, seed), 1 - rate
    mask = mask_of(shape, q, seed)
    floor = -1.0507009873554805 * 1.6732632423543772
    a = (q + floor**2 * q * (1 - q)) ** -0.5
    b = -a * (1 - q) * floor
    same(AlphaLayer(rate, drawn(seed))(x), a * (x.double().numpy() * mask + floor * (1 - mask)) + b)


@given(rate=st.floats(0.05, 0.9), seed=SEEDS)
def test_alpha_has_the_two_values_of_torchs_layer(rate, seed) -> None:
    x = torch.ones(2000)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs = functional.alpha_dropout(x, rate, training=True)
    ours = AlphaLayer(rate, drawn(seed))(x)
    torch.testing.assert_close(ours.unique(), theirs.unique(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_alpha_keeps_mean_zero_and_variance_one(rate) -> None:
    found = AlphaLayer(rate, drawn(5))(values((10 * COUNT,), torch.float64, 5))
    assert abs(found.mean()) < 0.01
    assert abs(found.var() - 1) < 0.02


def test_a_self_normalising_network_keeps_its_activations_normal(problem) -> None:
    one = problem("mlp")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one.model = Mlp([256] * 5, 4)
    one.task = replace(one.task, **asdict(one.model.places()))
    model = one.attached(Alpha(0.1))
    x = torch.randn(500, 256, generator=drawn(1))
    for layer in model.layers:
        x = layer(x)
    assert abs(x.mean()) < 0.1
    assert abs(x.var() - 1) < 0.2


@pytest.mark.parametrize("name", ["dropout", "gaussian"])
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_the_variance_is_p_over_q_and_the_mean_is_kept(name, rate) -> None:
    found = PLAIN[name](rate, drawn(3))(torch.ones(COUNT, dtype=torch.float64))
    variance = rate / (1 - rate)
    fourth = 3 * variance**2 if name == "gaussian" else rate / (1 - rate) ** 3 * (1 - 3 * rate * (1 - rate))
    assert abs(found.mean() - 1) < 4 * math.sqrt(variance / COUNT)
    assert abs(found.var() - variance) < 5 * math.sqrt((fourth - variance**2) / COUNT) + 5 * variance / COUNT


@given(shape=SHAPES, seed=SEEDS)
def test_rate_zero_is_the_identity(shape, seed) -> None:
    x = values(shape, torch.float32, seed)
    for layer in (*(make(0.0, drawn(0)) for make in PLAIN.values()), ImportanceLayer(0.0, 0.9, drawn(0))):
        assert torch.equal(layer(x), x)
        assert torch.equal(layer.eval()(x), x)
        assert not layer.acted
    assert torch.equal(StandoutLayer(1.0, math.inf, drawn(0))(x), x)


@given(shape=SHAPES, seed=SEEDS)
def test_evaluation_is_the_identity_but_for_srivastava_and_standout(shape, seed) -> None:
    x = values(shape, torch.float32, seed)
    for layer in (DropoutLayer, GaussianLayer, AlphaLayer):
        assert torch.equal(layer(0.5, drawn(0)).eval()(x), x)
    assert torch.equal(ImportanceLayer(0.5, 0.9, drawn(0)).eval()(x), x)


@pytest.mark.parametrize("layer", [DropoutLayer, SrivastavaLayer, AlphaLayer])
def test_dropped_units_get_no_gradient(layer) -> None:
    x = (values((50, 20), torch.float32, 1).abs() + 1).requires_grad_()
    layer(0.5, drawn(2))(x).sum().backward()
    assert ((x.grad == 0).numpy() == (mask_of(x.shape, 0.5, 2) == 0)).all()


class TestStandout:
    @given(shape=SHAPES, dtype=DTYPES, seed=SEEDS, alpha=st.floats(-2, 2), beta=st.floats(-3, 3))
    def test_keeps_with_probability_sigmoid_of_the_preactivation(self, shape, dtype, seed, alpha, beta) -> None:
        z = values(shape, torch.float64, seed)
        f = z.clamp_min(0).to(dtype)
        keep = 1 / (1 + np.exp(-(alpha * z.to(dtype).double().numpy() + beta)))
        uniform = torch.rand(shape, generator=drawn(seed)).double().numpy()
        expected = f.double().numpy() * (uniform < keep)
        found = StandoutLayer(alpha, beta, drawn(seed))(f).double().numpy()
        close = np.abs(uniform - keep) < 1e-6  # where rounding decides
        np.testing.assert_allclose(found[~close], expected[~close])

    @given(shape=SHAPES, seed=SEEDS, beta=st.floats(-3, 3))
    def test_multiplies_by_the_probability_in_evaluation(self, shape, seed, beta) -> None:
        f = values(shape, torch.float64, seed).clamp_min(0)
        same(StandoutLayer(1.0, beta, drawn(seed)).eval()(f), f.numpy() / (1 + np.exp(-(f.numpy() + beta))))


class TestImportance:
    @given(rate=RATES, spread=st.floats(0, 0.99), seed=SEEDS, width=st.integers(2, 30))
    def test_keep_probabilities_average_to_q_and_grow_with_importance(self, rate, spread, seed, width) -> None:
        layer = ImportanceLayer(rate, spread, drawn(seed))
        layer.importance = values((width,), torch.float64, seed).abs()
        keep = layer.keep(torch.zeros(1, width, dtype=torch.float64))
        assert abs(keep.mean() - (1 - rate)) < 1e-9
        assert keep.min() > 0
        assert keep.max() <= 1 + 1e-12
        assert torch.equal(keep[layer.importance.argsort()].diff() >= -1e-12, torch.ones(width - 1, dtype=torch.bool))

    @given(rate=RATES, seed=SEEDS, shape=SHAPES)
    def test_is_dropout_where_all_units_matter_equally(self, rate, seed, shape) -> None:
        x = values(shape, torch.float32, seed)
        layer = ImportanceLayer(rate, 0.9, drawn(seed))
        layer.importance = torch.full(shape[-1:], 3.0)
        torch.testing.assert_close(layer(x), DropoutLayer(rate, drawn(seed))(x))

    def test_the_mean_is_kept_unit_by_unit(self) -> None:
        layer = ImportanceLayer(0.5, 0.8, drawn(1))
        layer.importance = torch.tensor([0.0, 1.0, 2.0, 5.0])
        found = layer(torch.ones(COUNT, 4))
        error = found.std(0) / math.sqrt(COUNT)
        assert ((found.mean(0) - 1).abs() < 5 * error).all()

    def test_listens_to_the_size_of_a_times_its_gradient(self) -> None:
        layer = ImportanceLayer(0.5, 0.8, drawn(1))
        expected = None
        for seed in range(3):
            x = values((8, 5), torch.float64, seed).requires_grad_()
            (layer(x) * torch.arange(5.0)).sum().backward()
            product = (x * x.grad).abs().mean(0).detach()
            expected = product if expected is None else 0.9 * expected + 0.1 * product
        torch.testing.assert_close(layer.importance, expected)


def test_inputs_are_dropped_less_than_hidden_units(problem, build) -> None:
    one = problem("mlp")
    model = one.attached(build("dropout", rate=0.5))
    rates = {name: module.rate for name, module in model.named_modules() if isinstance(module, DropoutLayer)}
    assert rates == {"entry": 0.2, "layers.0.after": 0.5, "layers.1.after": 0.5}


def test_alpha_turns_the_activations_into_selu(problem, build) -> None:
    model = problem("mlp").attached(build("alpha"))
    kinds = [type(layer.activation) for layer in model.layers]
    assert kinds == [nn.SELU, nn.SELU]


@pytest.mark.parametrize(("name", "value"), [("rate", 1.0), ("rate", -0.1), ("rate", "half"), ("input_ratio", 2.0)])
def test_a_value_that_makes_no_sense_is_named(build, name, value) -> None:
    with pytest.raises(UsageError, match=f"{name} .*expected"):
        build("dropout", **{name: value})
