"""IA3, VeRA, MiSS and Bone against their equations in float64."""

from __future__ import annotations

import pytest
import torch


def trained_count(technique, model) -> int:
    return sum(p.numel() for group in technique.parameter_groups(model, 1e-2) for p in group["params"])


def randomise(parameter, seed: int = 3) -> torch.Tensor:
    with torch.no_grad():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return parameter.detach().double()


def test_ia3_scales_keys_values_and_the_inner_activations(vit, build) -> None:
    technique = build("ia3")
    model = vit.adapted(technique)
    adapted = {name.removesuffix(".ia3_l.default") for name, _ in model.named_parameters() if "ia3_l" in name}
    parts = ("attention.k_proj", "attention.v_proj", "mlp.fc2")
    assert adapted == {f"vit.layers.{index}.{part}" for index in (0, 1) for part in parts}
    assert trained_count(technique, model) == 2 * (32 + 32 + 48)


def test_ia3_scales_the_outputs_of_values_and_the_inputs_of_the_feedforward(vit, build) -> None:
    model = vit.adapted(build("ia3"))
    for part, dim in (("attention.v_proj", 0), ("mlp.fc2", 1)):
        layer = model.get_submodule(f"vit.layers.0.{part}")
        base = vit.base.get_submodule(f"vit.layers.0.{part}")
        scale = randomise(layer.ia3_l["default"]).flatten()
        x = torch.randn(5, base.in_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        weight, bias = base.weight.double(), base.bias.double()
        expected = (x @ weight.T + bias) * scale if dim == 0 else (x * scale) @ weight.T + bias
        torch.testing.assert_close(layer(x.float()).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [3, 64])
def test_vera_trains_outputs_plus_rank_numbers_a_layer(vit, build, rank) -> None:
    technique = build("vera", rank=rank)
    model = vit.adapted(technique)
    outputs = sum(vit.base.get_submodule(name).out_features for name in vit.linears)
    assert trained_count(technique, model) == outputs + rank * len(vit.linears)


def test_vera_scales_projections_that_the_layers_share(vit, build, effective) -> None:
    model = vit.adapted(build("vera", rank=5))
    projections = set()
    for index, name in enumerate(vit.linears):
        layer, base = model.get_submodule(name), vit.base.get_submodule(name)
        a, b = layer.vera_A["default"], layer.vera_B["default"]
        projections.add((a.data_ptr(), b.data_ptr()))
        assert not a.requires_grad
        assert not b.requires_grad
        d, v = randomise(layer.vera_lambda_d["default"], index), randomise(layer.vera_lambda_b["default"], index + 50)
        left, right = b[: base.out_features].double(), a[:, : base.in_features].double()
        expected = base.weight.double() + torch.diag(v) @ left @ torch.diag(d) @ right
        torch.testing.assert_close(effective(layer, base.in_features), expected, rtol=1e-4, atol=1e-4)
    assert len(projections) == 1


@pytest.mark.parametrize("name", ["miss", "bone"])
@pytest.mark.parametrize("rank", [2, 4])
def test_miss_and_bone_train_outputs_times_rank_numbers_a_layer(vit, build, name, rank) -> None:
    technique = build(name, rank=rank)
    model = vit.adapted(technique)
    outputs = sum(vit.base.get_submodule(linear).out_features for linear in vit.linears)
    assert trained_count(technique, model) == outputs * rank


@pytest.mark.parametrize(("outputs", "inputs", "rank"), [(6, 12, 3), (5, 11, 4), (4, 4, 4)])
def test_miss_adds_the_same_block_along_the_inputs(layer, build, effective, outputs, inputs, rank) -> None:
    problem = layer(outputs, inputs)
    adapted = problem.adapted(build("miss", rank=rank)).layers[0]
    shared = randomise(adapted.miss_block["default"])
    update = torch.stack([shared[column % rank] for column in range(inputs)], dim=1)
    expected = problem.base.layers[0].weight.double() + update
    torch.testing.assert_close(effective(adapted, inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("outputs", "inputs", "rank"), [(6, 12, 3), (8, 4, 2), (4, 4, 4)])
def test_bone_adds_a_block_affine_map_of_the_weight(layer, build, effective, outputs, inputs, rank) -> None:
    problem = layer(outputs, inputs)
    adapted = problem.adapted(build("bone", rank=rank)).layers[0]
    blocks = randomise(adapted.miss_block["default"])
    weight = problem.base.layers[0].weight.detach().double()
    expected = weight.clone()
    for j in range(outputs // rank):
        for k in range(inputs // rank):
            rows, columns = slice(j * rank, (j + 1) * rank), slice(k * rank, (k + 1) * rank)
            expected[rows, columns] += weight[rows, columns] @ blocks[j] + blocks[j]
    torch.testing.assert_close(effective(adapted, inputs), expected, rtol=0, atol=1e-5)
