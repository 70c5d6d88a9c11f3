"""EVA against a singular value decomposition of each layer's inputs."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import scipy.linalg
import torch


@pytest.fixture
def problem(mlp):
    """Inputs of a clear spectrum, so that the leading directions are well defined."""
    generator = torch.Generator().manual_seed(5)
    basis, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    spectrum = torch.tensor([5.0, 4.0, 3.0, 2.0] + [0.1] * 12)
    batches = [
        {"x": 1 + torch.randn(64, 16, generator=generator) * spectrum @ basis, "labels": torch.randint(3, (64,))}
        for _ in range(4)
    ]
    return dataclasses.replace(mlp, batches=batches)


def inputs_of(problem) -> dict[str, torch.Tensor]:
    """What flows into each linear over the calibration batches, in float64."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in problem.linears}
    model = problem.fresh()
    for name in problem.linears:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen[name].append(args[0].detach().double())
        )
    for batch in problem.batches:
        problem.forward(model, batch)
    return {name: torch.cat(parts) for name, parts in seen.items()}


def adapters(model) -> dict[str, torch.nn.Module]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def test_a_has_orthonormal_rows_and_b_is_0(problem, build) -> None:
    for layer in adapters(problem.adapted(build("eva", rank=2))).values():
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.testing.assert_close(a @ a.T, torch.eye(len(a)), rtol=0, atol=1e-5)
        assert not b.any()


def principal(inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of the variance and direction (a row) of each principal component of the inputs."""
    _, values, right = scipy.linalg.svd((inputs - inputs.mean(0)).numpy(), full_matrices=False)
    return torch.from_numpy(values**2 / (values**2).sum()), torch.from_numpy(right)


def test_a_spans_the_principal_directions_of_the_inputs(problem, build) -> None:
    _, directions = principal(inputs_of(problem)["layers.0"])
    a = problem.adapted(build("eva", rank=2, rho=1.0)).layers[0].lora_A["default"].weight
    angles = scipy.linalg.subspace_angles(a.detach().double().numpy().T, directions[:2].numpy().T)
    assert max(angles) < 0.05


def test_a_explains_nearly_all_that_so_many_directions_can(problem, build) -> None:
    inputs = inputs_of(problem)
    for name, layer in adapters(problem.adapted(build("eva", rank=2, rho=2.0))).items():
        centred = inputs[name] - inputs[name].mean(0)
        a = layer.lora_A["default"].weight.detach().double()
        share = ((centred @ a.T) ** 2).sum() / (centred**2).sum()
        shares, _ = principal(inputs[name])
        assert share > 0.95 * shares[: len(a)].sum(), name


def test_ranks_go_where_they_explain_most(problem, build) -> None:
    base = copy.deepcopy(problem.base)
    with torch.no_grad():
        base.layers[0].weight[:, 1:] = 0
        base.layers[0].bias.fill_(100)  # no unit is ever off: what follows lies on a line, and needs little
    problem = dataclasses.replace(problem, base=base)
    model = problem.adapted(build("eva", rank=2, rho=2.0))
    shares = {name: principal(inputs)[0] for name, inputs in inputs_of(problem).items()}
    ranks = {name: len(layer.lora_A["default"].weight) for name, layer in adapters(model).items()}
    explained = sum(shares[name][:rank].sum() for name, rank in ranks.items())
    uniform = sum(share[:2].sum() for share in shares.values())
    best = torch.cat([share[:4] for share in shares.values()]).topk(6).values.sum()
    assert best > 1.02 * uniform, "every layer deserves the same rank here, so nothing is tested"
    assert explained > 0.99 * best


def test_a_random_subspace_is_not_mistaken_for_it(problem, build) -> None:
    inputs = inputs_of(problem)["layers.0"]
    _, _, right = scipy.linalg.svd((inputs - inputs.mean(0)).numpy(), full_matrices=False)
    a = problem.adapted(build("eva-control", rank=2)).layers[0].lora_A["default"].weight
    assert max(scipy.linalg.subspace_angles(a.detach().double().numpy().T, right[:2].T)) > 0.5


@pytest.mark.parametrize("rho", [1.0, 1.5, 2.0])
def test_the_ranks_stay_within_their_budget(vit, build, rho) -> None:
    model = vit.adapted(build("eva", rank=4, rho=rho))
    ranks = {name: len(layer.lora_A["default"].weight) for name, layer in adapters(model).items()}
    assert sum(ranks.values()) == 4 * len(vit.linears)
    assert max(ranks.values()) <= round(4 * rho)
    assert ranks.keys() <= set(vit.linears)


def test_the_scale_is_that_of_the_nominal_rank(vit, build) -> None:
    model = vit.adapted(build("eva", rank=3, alpha=6, rho=2.0))
    ranks = {len(layer.lora_A["default"].weight) for layer in adapters(model).values()}
    assert len(ranks) > 1, "no ranks were redistributed, so nothing is tested"
    assert all(layer.scaling["default"] == pytest.approx(2) for layer in adapters(model).values())
