"""SVFit and LoLDU against SciPy's decompositions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from harness_lora.spectral import LoLDU, SVFit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

SIZES = st.integers(1, 12)
RANKS = st.integers(1, 14)


def weight_of(problem) -> np.ndarray:
    return problem.base.layers[0].weight.detach().double().numpy()


def trained(technique, model) -> list[nn.Parameter]:
    return [parameter for group in technique.parameter_groups(model, 1e-2) for parameter in group["params"]]


@settings(deadline=None, max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS)
def test_svfit_trains_the_largest_singular_values(layer, effective, outputs, inputs, rank) -> None:
    problem, technique = layer(outputs, inputs), SVFit(rank=rank)
    model = problem.adapted(technique)
    (values,) = trained(technique, model)
    left, singular, right = scipy.linalg.svd(weight_of(problem), full_matrices=False)
    rank = min(rank, outputs, inputs)
    np.testing.assert_allclose(values.detach(), singular[:rank], atol=1e-5)
    target = np.arange(1.0, rank + 1)
    with torch.no_grad():
        values.copy_(torch.from_numpy(target))
    expected = weight_of(problem) + (left[:, :rank] * (target - singular[:rank])) @ right[:rank]
    # singular vectors are defined up to a sign that cancels in the product
    np.testing.assert_allclose(effective(model.layers[0], inputs), expected, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS, alpha=st.sampled_from([1, 8, 64]))
def test_loldu_trains_the_first_pivots_and_a_scale(layer, effective, outputs, inputs, rank, alpha) -> None:
    problem, technique = layer(outputs, inputs), LoLDU(rank=rank, alpha=alpha)
    model = problem.adapted(technique)
    weight = weight_of(problem)
    values, scale = trained(technique, model)
    permutation, lower, upper = scipy.linalg.lu(weight)
    count, c = min(rank, outputs, inputs), alpha / rank
    pivots = np.diag(upper)[:count]
    assert scale.numel() + values.numel() == count + 1
    assert scale.item() == pytest.approx(c)
    np.testing.assert_allclose(values.detach(), pivots, rtol=1e-3, atol=1e-5)

    left, right = (permutation @ lower)[:, :count], upper[:count] / pivots[:, None]
    residual = weight - c * (left * pivots) @ right
    with torch.no_grad():
        values.mul_(1.5)
        scale.mul_(2.0)
    expected = residual + 2 * c * (left * pivots * 1.5) @ right
    actual = effective(model.layers[0], inputs).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-4 * (1 + np.abs(expected).max()))


@settings(deadline=None, max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS)
@pytest.mark.parametrize(("name", "params"), [("svfit", {}), ("loldu", {"alpha": 3})])
def test_the_start_is_exact(layer, build, effective, name, params, outputs, inputs, rank) -> None:
    problem = layer(outputs, inputs)
    model = problem.adapted(build(name, rank=rank, **params))
    scale = 1 + np.abs(model.layers[0].base_layer.weight.detach().numpy()).max()
    np.testing.assert_allclose(effective(model.layers[0], inputs), weight_of(problem), atol=1e-5 * scale)


@settings(deadline=None, max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS, singular=st.integers(0, 2))
def test_loldu_survives_a_weight_without_full_rank(layer, effective, outputs, inputs, rank, singular) -> None:
    problem = layer(outputs, inputs)
    model = problem.fresh()
    with torch.no_grad():
        model.layers[0].weight[:, singular:] = 0
    expected = model.layers[0].weight.detach().clone()
    technique = LoLDU(rank=rank, alpha=rank)
    technique.adapt(model, problem.task())
    assert all(torch.isfinite(p).all() for p in trained(technique, model))
    np.testing.assert_allclose(effective(model.layers[0], inputs), expected, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS)
def test_merging_gives_back_a_plain_linear_of_the_same_bias(layer, effective, outputs, inputs, rank) -> None:
    problem, technique = layer(outputs, inputs), LoLDU(rank=rank, alpha=rank)
    model = problem.adapted(technique)
    with torch.no_grad():
        for parameter in trained(technique, model):
            parameter.add_(0.25)
    expected = effective(model.layers[0], inputs)
    merged = technique.merge(model).layers[0]
    assert type(merged) is nn.Linear
    assert torch.equal(merged.bias, problem.base.layers[0].bias)
    np.testing.assert_allclose(merged.weight.detach(), expected, atol=1e-5 * (1 + expected.abs().max().item()))
