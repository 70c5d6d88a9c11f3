"""Every technique, trained by repeating a recorded step: the very numbers of a training without a recording."""

from __future__ import annotations

import hashlib
import importlib
from contextlib import nullcontext

import pytest
from harness_lora import register_techniques

from harness.api import CaseContext, NotApplicable
from harness.families.finetune.digits import DigitsWorkload
from harness.testing import cache_folder
from tests.declared import specs

SPECS = specs("finetune")
STEPS = 3  # recorded, repeated, and taken in both ways
NAMES = [technique.id for technique in register_techniques()]
ABSENT = {("digits-mlp", "norm")}
"""Workloads on which a technique has nothing to act on."""


@pytest.fixture(scope="module", params=["digits-mlp", "digits-split"])
def workload(request):
    module, _, attribute = SPECS[request.param].target.partition(":")
    return getattr(importlib.import_module(module), attribute)()


@pytest.fixture(scope="module")
def contexts(workload, request, tmp_path_factory):
    """Two seeds, each with a learning rate of its own, the second from perturbed weights."""
    settings = {**SPECS[workload.name].settings, "steps": STEPS}
    given = [
        CaseContext(
            seed=seed,
            device="cpu",
            settings={**settings, "lr": lr},
            cache=cache_folder(request.config, tmp_path_factory),
            phase=lambda _: nullcontext(),
            perturbed=seed > 0,
        )
        for seed, lr in [(0, 4e-3), (3, 3.6e-2)]
    ]
    workload.prepare(given[0])
    return given


def bits(_, model, __):
    """What stands for the figures of a trained model, at a tenth of their cost: every bit of it."""
    return {key: hashlib.sha256(value.numpy().tobytes()).hexdigest() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_rates_give_the_numbers_of_each_alone(workload, name, build, contexts, monkeypatch) -> None:
    monkeypatch.setattr(DigitsWorkload, "_quality", bits)
    techniques = [build(name) for _ in contexts]
    if (workload.name, name) in ABSENT:
        with pytest.raises(NotApplicable):
            workload.evaluate_stacked(techniques, contexts)
        return
    together = workload.evaluate_stacked(techniques, contexts)
    assert together == [workload.evaluate(build(name), context) for context in contexts]
    assert together[0] != together[1]
