"""Starts from factors of a weight: the bits of peft's own, kept or not, and no time that a user does not pay."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from harness_lora.adaptation import linears
from peft import LoraConfig, inject_adapter_in_model

from harness.api import CaseContext, Incorrect
from harness.families.finetune.workloads.text_classification import TextClassification
from harness.judge.cache import BASE_MODELS
from harness.judge.factors import Factors, factorisation
from tests.declared import specs
from tests.families.finetune.tiny import save_model, save_texts

FACTORED = ("pissa", "milora", "olora", "svfit", "loldu")

LEARNED: list[torch.Tensor] = []


@factorisation
def learned(weight: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return what an earlier case of this process has trained, where there is something."""
    return (LEARNED[0] if LEARNED and LEARNED[0].shape == weight.shape else weight,)


def kept(folder) -> int:
    return len(list((folder / BASE_MODELS).glob("factors-*.safetensors")))


@pytest.fixture
def case(tmp_path) -> CaseContext:
    spec = specs("finetune")["text-classification"]
    own = {"model": str(save_model(tmp_path / "model")), "data": str(save_texts(tmp_path / "texts.csv"))}
    sizes = {"train_examples": 48, "validation_examples": 24, "batch_size": 4}
    settings = {**spec.settings, **spec.small, **own, **sizes}
    return CaseContext(seed=0, device="cpu", settings=settings, cache=tmp_path, phase=lambda _: nullcontext())


def state(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", FACTORED)
def test_kept_factors_change_no_bit(vit, build, name, tmp_path) -> None:
    params = {"rank": 4}
    expected = state(vit.adapted(build(name, **params)))
    for factors in (Factors(tmp_path), Factors(tmp_path), Factors(tmp_path, thorough=True)):
        task = dataclasses.replace(vit.task(), factors=factors)
        found = state(build(name, **params).adapt(vit.fresh(), task))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert kept(tmp_path) == 1


@pytest.mark.parametrize("name", ["pissa", "olora"])
@pytest.mark.parametrize("alpha", [4, 6])
def test_the_start_has_the_bits_of_plain_peft(vit, build, name, alpha) -> None:
    model = vit.fresh()
    config = LoraConfig(r=4, lora_alpha=alpha, init_lora_weights=name, target_modules=list(vit.linears))
    expected = state(inject_adapter_in_model(config, model))
    found = state(vit.adapted(build(name, rank=4, alpha=alpha)))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", FACTORED)
def test_a_base_weight_is_not_what_is_kept(vit, build, name, tmp_path) -> None:
    """Another model of the same shapes gets factors of its own."""
    task = dataclasses.replace(vit.task(), factors=Factors(tmp_path))
    build(name, rank=4).adapt(vit.fresh(), task)
    other = vit.fresh()
    with torch.no_grad():
        for linear in linears(other, vit.linears).values():
            linear.weight.mul_(-1.5)
    changed = dataclasses.replace(vit, base=other)
    expected = state(changed.adapted(build(name, rank=4)))
    found = state(build(name, rank=4).adapt(changed.fresh(), task))
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_cases_of_quality_share_factors_and_those_of_cost_pay_them(build, case) -> None:
    workload = TextClassification()
    workload.open(build("svfit", rank=4), case)
    assert kept(case.cache) == 0
    first = workload.evaluate(build("svfit", rank=4), case)
    assert kept(case.cache) == 1
    assert workload.evaluate(build("svfit", rank=4), case) == first


def test_the_gate_finds_a_technique_that_keeps_what_it_has_learned(build, case) -> None:
    """Planted: the factors are a weight that the last case has trained, which the next one would begin with."""

    class Keeps(type(build("full"))):
        def insert(self, model, task) -> None:
            super().insert(model, task)
            name = task.linears[0]
            task.factors(learned, {name: model.get_submodule(name).weight})

    LEARNED.append(torch.ones(16, 16))
    workload = TextClassification()
    workload.evaluate(Keeps(), case)
    LEARNED.clear()  # the next case, in another process
    with pytest.raises(Incorrect, match="gives other factors of the same weight"):
        workload.check(Keeps(), case)
    with pytest.raises(Incorrect, match="gives other factors of the same weight"):
        workload.evaluate(Keeps(), case)
