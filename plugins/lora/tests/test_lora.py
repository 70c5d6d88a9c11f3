"""LoRA's initialisations against their equations in float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import UsageError

SIZES = st.integers(2, 12)


def factors(layer) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B in float64."""
    return (
        layer.lora_A["default"].weight.detach().double(),
        layer.lora_B["default"].weight.detach().double(),
    )


def adapter(problem, technique):
    """The only adapted layer of a one-layer problem, and the base weight in float64."""
    return problem.adapted(technique).layers[0], problem.base.layers[0].weight.detach().double()


def unfreeze(layer, seed: int = 3) -> None:
    """Numbers in A and B as training might leave them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.mark.parametrize(("name", "frozen", "moving"), [("init-a", "lora_A", "lora_B"), ("init-b", "lora_B", "lora_A")])
def test_at_step_0_only_the_factor_that_starts_at_0_has_a_gradient(vit, build, name, frozen, moving) -> None:
    model = vit.adapted(build(name))
    vit.loss(model, vit.batches[0]).backward()
    gradients = {label: p.grad for label, p in model.named_parameters() if p.requires_grad and "lora_" in label}
    assert all(bool((g == 0).all()) for label, g in gradients.items() if frozen in label)
    # beside the first token nothing of the last layer reaches the head, but every layer is reached
    assert all(bool((g != 0).any()) for label, g in gradients.items() if moving in label and "k_proj" not in label)


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, rank=st.integers(1, 6))
def test_init_a_and_init_b_start_at_a_product_of_0(layer, build, outputs, inputs, rank) -> None:
    a, b = factors(adapter(layer(outputs, inputs), build("init-a", rank=rank))[0])
    assert not b.any()
    assert a.all()
    a, b = factors(adapter(layer(outputs, inputs), build("init-b", rank=rank))[0])
    assert not a.any()
    assert b.all()


@pytest.mark.parametrize("inputs", [64, 256])
def test_init_a_draws_a_of_variance_1_over_inputs(layer, build, inputs) -> None:
    a, _ = factors(adapter(layer(8, inputs), build("init-a", rank=64))[0])
    # a mean square of n normal numbers has the relative deviation sqrt(2 / n)
    assert (a**2).mean().item() * inputs == pytest.approx(1, abs=4 * (2 / a.numel()) ** 0.5)


@pytest.mark.parametrize("rank", [2, 16])
def test_init_b_draws_b_of_variance_1_over_rank(layer, build, rank) -> None:
    _, b = factors(adapter(layer(2048, 8), build("init-b", rank=rank))[0])
    assert (b**2).mean().item() * rank == pytest.approx(1, abs=4 * (2 / b.numel()) ** 0.5)


def test_peft_draws_a_uniformly(layer, build) -> None:
    a, b = factors(adapter(layer(8, 100), build("lora", rank=64))[0])
    assert a.abs().max() <= 0.1
    assert a.var().item() == pytest.approx(0.1**2 / 3, rel=0.05)
    assert not b.any()


@pytest.mark.parametrize(("name", "scale"), [("lora", 8 / 4), ("init-a", 8 / 4), ("rslora", 8 / 4**0.5)])
def test_the_adapter_adds_its_scaled_product(layer, build, effective, name, scale) -> None:
    adapted, weight = adapter(layer(10, 14), build(name, rank=4, alpha=8))
    unfreeze(adapted)
    a, b = factors(adapted)
    torch.testing.assert_close(effective(adapted, 14), weight + scale * b @ a, rtol=0, atol=1e-5)


def test_dora_normalises_row_by_row(layer, build, effective) -> None:
    adapted, weight = adapter(layer(10, 14), build("dora", rank=4, alpha=8))
    magnitude = adapted.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(magnitude.double(), weight.norm(dim=1), rtol=1e-5, atol=0)
    unfreeze(adapted)
    a, b = factors(adapted)
    direction = weight + 2 * b @ a
    expected = magnitude.detach().double()[:, None] * direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(effective(adapted, 14), expected, rtol=0, atol=1e-5)


def test_orthogonal_starts_with_factors_whose_product_is_0(layer, build) -> None:
    a, b = factors(adapter(layer(10, 14), build("orthogonal", rank=4))[0])
    assert torch.linalg.matrix_rank(a, rtol=1e-4) == 2
    assert torch.linalg.matrix_rank(b, rtol=1e-4) == 2
    assert (b @ a).abs().max() < 1e-7


def test_orthogonal_says_that_it_needs_an_even_rank(build) -> None:
    with pytest.raises(UsageError, match="even rank"):
        build("orthogonal", rank=3)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("lora", {"rank": 0}),
        ("lora", {"rank": 2.5}),
        ("pissa", {"rank": True}),
        ("pissa", {"alpha": -1}),
        ("lora-plus", {"ratio": 0}),
        ("eva", {"rho": 0.5}),
        ("eva", {"rho": float("inf")}),
        ("vera", {"d_initial": "0.1"}),
        ("houlsby", {"bottleneck": -8}),
        ("loldu", {"alpha": float("nan")}),
    ],
)
def test_a_parameter_that_makes_no_sense_is_a_usage_error_that_names_it(build, name, params) -> None:
    (parameter,) = params
    with pytest.raises(UsageError, match=f"^{parameter} "):
        build(name, **params)


def test_olora_starts_from_the_qr_factors(layer, build) -> None:
    adapted, weight = adapter(layer(10, 14), build("olora", rank=4, alpha=8))
    a, b = factors(adapted)
    q, r = scipy.linalg.qr(weight.numpy(), mode="economic")
    np.testing.assert_allclose(b @ a, q[:, :4] @ r[:4], atol=1e-5)
    np.testing.assert_allclose(b.T @ b, np.eye(4), atol=1e-5)
    torch.testing.assert_close(adapted.base_layer.weight.double() + 2 * b @ a, weight, rtol=0, atol=1e-6)


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, data=st.data(), alpha=st.sampled_from([1, 4, 16]))
@pytest.mark.parametrize(("name", "largest"), [("pissa", True), ("milora", False)])
def test_pissa_takes_the_largest_and_milora_the_smallest_singular_triples(
    layer, build, name, largest, outputs, inputs, data, alpha
) -> None:
    rank = data.draw(st.integers(1, min(outputs, inputs)))
    adapted, weight = adapter(layer(outputs, inputs), build(name, rank=rank, alpha=alpha))
    a, b = factors(adapted)
    left, values, right = scipy.linalg.svd(weight.numpy(), full_matrices=False)
    chosen = slice(rank) if largest else slice(len(values) - rank, None)
    part = (left[:, chosen] * values[chosen]) @ right[chosen]
    np.testing.assert_allclose(alpha / rank * b @ a, part, atol=2e-5)
    np.testing.assert_allclose(a @ a.T, b.T @ b, atol=2e-5)  # the singular values are split evenly
    torch.testing.assert_close(
        adapted.base_layer.weight.detach().double() + alpha / rank * b @ a, weight, rtol=0, atol=2e-6
    )


@settings(max_examples=50)
@given(outputs=SIZES, inputs=SIZES, data=st.data())
def test_the_control_of_eva_has_orthonormal_rows(layer, build, outputs, inputs, data) -> None:
    rank = data.draw(st.integers(1, min(outputs, inputs)))
    a, b = factors(adapter(layer(outputs, inputs), build("eva-control", rank=rank))[0])
    torch.testing.assert_close(a @ a.T, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-5)
    assert not b.any()


@pytest.mark.parametrize("ratio", [1, 16])
def test_lora_plus_trains_b_faster_than_a(vit, build, ratio) -> None:
    technique = build("lora-plus", ratio=ratio)
    model = vit.adapted(technique)
    slow, fast = technique.parameter_groups(model, 1e-3)
    assert fast["lr"] == pytest.approx(ratio * slow["lr"])
    assert slow["lr"] == 1e-3
    parameters = dict(model.named_parameters())
    for group, factor in ((slow, "lora_A"), (fast, "lora_B")):
        expected = {id(p) for name, p in parameters.items() if factor in name}
        assert {id(p) for p in group["params"]} == expected


def test_the_first_step_of_lora_plus_is_that_much_longer(layer, build) -> None:
    problem, lengths = layer(10, 14), {}
    for ratio in (1, 16):
        technique = build("lora-plus", ratio=ratio)
        model = problem.adapted(technique)
        problem.train(technique, model, steps=1, lr=1e-3)
        lengths[ratio] = factors(model.layers[0])[1].norm().item()
    assert lengths[16] / lengths[1] == pytest.approx(16, rel=1e-3)
