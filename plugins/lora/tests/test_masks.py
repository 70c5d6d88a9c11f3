"""Full fine-tuning, head, BitFit and norms: exactly the named tensors move."""

from __future__ import annotations

import pytest
import torch

LAYERS = [f"vit.layers.{index}.{part}" for index in (0, 1) for part in ("layernorm_before", "layernorm_after")]


def moved(problem, technique) -> set[str]:
    model = problem.adapted(technique)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # at a high rate and over some steps, since the keys' biases move by rounding alone
    problem.train(technique, model, steps=3, lr=0.1)
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.fixture
def names(vit) -> set[str]:
    return {name for name, _ in vit.base.named_parameters()}


HEAD = {"classifier.weight", "classifier.bias"}
DEAD = {f"vit.layers.{index}.attention.k_proj.bias" for index in (0, 1)}


def test_full_moves_every_tensor(vit, build, names) -> None:
    assert moved(vit, build("full")) | DEAD == names


def test_head_moves_the_head(vit, build) -> None:
    assert moved(vit, build("head")) == HEAD


def test_head_has_no_parameters_of_its_own(vit, build) -> None:
    technique = build("head")
    assert technique.parameter_groups(vit.adapted(technique), 1e-2) == []


def test_bitfit_moves_the_biases(vit, build, names) -> None:
    assert moved(vit, build("bitfit")) | DEAD == {name for name in names if name.endswith(".bias")} | HEAD


def test_norm_moves_the_normalisation_layers(vit, build) -> None:
    norms = {f"{name}.{part}" for name in [*LAYERS, "vit.layernorm"] for part in ("weight", "bias")}
    assert moved(vit, build("norm")) == norms | HEAD
