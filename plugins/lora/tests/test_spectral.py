"""SVFit and LoLDU against SciPy's decompositions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


ROUNDING = 12**2 * 2.0**-52
"""Backward error of a factorisation of 12 x 12 in float64, relative to the matrix: its size squared, in epsilons.

Which LAPACK factors on which processor decides the last digits, so layers here are in float64, and what is computed is
off by this times how ill-conditioned it is; float32 would have to be allowed as much as a fault costs.
"""


@pytest.fixture(scope="session")
def double_layer(layer) -> Callable[[int, int], Any]:
    """A perceptron of one hidden layer of so many outputs and inputs, in float64."""

    def made(outputs: int, inputs: int) -> Any:
        problem = layer(outputs, inputs)
        problem.base.double()
        return problem

    return made


def gap(singular: np.ndarray) -> float:
    """Return the least distance of singular values from each other and from 0: vectors turn by the error over it."""
    return float(-np.diff(singular, append=0.0).max())


def pivots_condition(weight: np.ndarray, permutation: np.ndarray) -> float:
    """Return the largest condition number of the leading blocks, which the pivots of an LU decomposition have."""
    rows = permutation.T @ weight
    return max(float(np.linalg.cond(rows[:k, :k])) for k in range(1, min(rows.shape) + 1))


def weight_of(problem) -> np.ndarray:
    return problem.base.layers[0].weight.detach().double().numpy()


def trained(technique, model) -> list[nn.Parameter]:
    return [parameter for group in technique.parameter_groups(model, 1e-2) for parameter in group["params"]]


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS)
def test_svfit_trains_the_largest_singular_values(double_layer, effective, outputs, inputs, rank) -> None:
    problem, technique = double_layer(outputs, inputs), SVFit(rank=rank)
    model = problem.adapted(technique)
    (values,) = trained(technique, model)
    left, singular, right = scipy.linalg.svd(weight_of(problem), full_matrices=False)
    rank = min(rank, outputs, inputs)
    np.testing.assert_allclose(values.detach(), singular[:rank], rtol=0, atol=ROUNDING * singular[0])
    target = np.arange(1.0, rank + 1)
    with torch.no_grad():
        values.copy_(torch.from_numpy(target))
    expected = weight_of(problem) + (left[:, :rank] * (target - singular[:rank])) @ right[:rank]
    # singular vectors are defined up to a sign that cancels in the product
    turned = 2 * singular[0] / gap(singular)  # left vectors and right ones
    atol = ROUNDING * (1 + turned) * (singular[0] + target[-1])
    np.testing.assert_allclose(effective(model.layers[0], inputs), expected, rtol=0, atol=atol)


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS, alpha=st.sampled_from([1, 8, 64]))
def test_loldu_trains_the_first_pivots_and_a_scale(double_layer, effective, outputs, inputs, rank, alpha) -> None:
    problem, technique = double_layer(outputs, inputs), LoLDU(rank=rank, alpha=alpha)
    model = problem.adapted(technique)
    weight = weight_of(problem)
    values, scale = trained(technique, model)
    permutation, lower, upper = scipy.linalg.lu(weight)
    count, c = min(rank, outputs, inputs), scale.item()
    pivots = np.diag(upper)[:count]
    assert scale.numel() + values.numel() == count + 1
    assert c == pytest.approx(alpha / rank, rel=2.0**-23)
    lost = ROUNDING * pivots_condition(weight, permutation)
    np.testing.assert_allclose(values.detach(), pivots, rtol=0, atol=lost * np.abs(upper).max())

    left, right = (permutation @ lower)[:, :count], upper[:count] / pivots[:, None]
    residual = weight - c * (left * pivots) @ right
    with torch.no_grad():
        values.mul_(1.5)
        scale.mul_(2.0)
    expected = residual + 2 * c * (left * pivots * 1.5) @ right
    actual = effective(model.layers[0], inputs).numpy()
    sizes = np.abs(left * pivots) @ np.abs(right)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=4 * c * lost * (1 + sizes.max()))


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS)
@pytest.mark.parametrize(("name", "params"), [("svfit", {}), ("loldu", {"alpha": 3})])
def test_the_start_is_exact(double_layer, build, effective, name, params, outputs, inputs, rank) -> None:
    problem = double_layer(outputs, inputs)
    model = problem.adapted(build(name, rank=rank, **params))
    # what is subtracted is added again: only the roundings of sums count, in the size of the residual
    scale = 1 + np.abs(model.layers[0].base_layer.weight.detach().numpy()).max()
    np.testing.assert_allclose(effective(model.layers[0], inputs), weight_of(problem), rtol=0, atol=ROUNDING * scale)


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS, singular=st.integers(0, 2))
def test_loldu_survives_a_weight_without_full_rank(double_layer, effective, outputs, inputs, rank, singular) -> None:
    problem = double_layer(outputs, inputs)
    model = problem.fresh()
    with torch.no_grad():
        model.layers[0].weight[:, singular:] = 0
    expected = model.layers[0].weight.detach().clone()
    technique = LoLDU(rank=rank, alpha=rank)
    technique.adapt(model, problem.task())
    assert all(torch.isfinite(p).all() for p in trained(technique, model))
    np.testing.assert_allclose(effective(model.layers[0], inputs), expected, rtol=0, atol=ROUNDING)


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=RANKS)
def test_merging_gives_back_a_plain_linear_of_the_same_bias(double_layer, effective, outputs, inputs, rank) -> None:
    problem, technique = double_layer(outputs, inputs), LoLDU(rank=rank, alpha=rank)
    model = problem.adapted(technique)
    with torch.no_grad():
        for parameter in trained(technique, model):
            parameter.add_(0.25)
    expected = effective(model.layers[0], inputs)
    merged = technique.merge(model).layers[0]
    assert type(merged) is nn.Linear
    assert torch.equal(merged.bias, problem.base.layers[0].bias)
    np.testing.assert_allclose(
        merged.weight.detach(), expected, rtol=0, atol=ROUNDING * (1 + expected.abs().max().item())
    )
