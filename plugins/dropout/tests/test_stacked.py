"""Every technique, its seeds trained together: the very numbers of each seed alone, or a refusal that is expected."""

from __future__ import annotations

import importlib
from contextlib import nullcontext

import pytest
from harness_dropout import register_techniques

from harness.api import CannotStack, CaseContext, NotApplicable
from tests.declared import specs

SPECS = {spec.id: spec for spec in specs("regularize").values() if spec.stacks and not spec.requires}
NAMES = sorted(technique.id for technique in register_techniques())

APART = {
    "concrete": "no layer could be computed together",
    "variational": "no layer could be computed together",
    "weight-compander": "no layer could be computed together",
    "early-stopping": "validation examples after every epoch",
    "r-drop": "something else than the batch",
}
"""Techniques whose seeds are trained one by one, and why."""

ABSENT = {"dropblock", "spatial", "droppath", "layerdrop", "rnn-fresh", "rnn-variational", "zoneout"}
"""Techniques that have nothing to act on in a model of linear layers."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.getbasetemp().parent / "stacked-cache"


def contexts(name, cache, seeds, **settings):
    return [
        CaseContext(
            seed=seed,
            device="cpu",
            settings={**SPECS[name].settings, **settings},
            cache=cache,
            phase=lambda _: nullcontext(),
            perturbed=seed == seeds[-1],
        )
        for seed in seeds
    ]


def workload_of(name):
    module, _, attribute = SPECS[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_trained_together_give_the_numbers_of_each_alone(name, build, cache) -> None:
    workload, given = workload_of("digits-noisy"), contexts("digits-noisy", cache, (0, 5, 2), epochs=3)
    techniques = [build(name) for _ in given]
    if name in ABSENT:
        with pytest.raises(NotApplicable):
            workload.evaluate_stacked(techniques, given)
        return
    if name in APART:
        with pytest.raises(CannotStack, match=APART[name]):
            workload.evaluate_stacked(techniques, given)
        return
    alone = [workload.evaluate(build(name), context) for context in given]
    assert workload.evaluate_stacked(techniques, given) == alone
    assert len({score.metrics["val_loss"] for score in alone}) == 3


@pytest.mark.parametrize("workload_name", sorted(SPECS))
@pytest.mark.parametrize("name", ["none", "dropout", "weight-decay", "ghost-batchnorm"])
def test_and_so_on_every_workload_that_says_it_stacks(workload_name, name, build, cache) -> None:
    settings = {"epochs": 1, "train_examples": 700 if workload_name.startswith("charlm") else 130}
    if workload_name.startswith("charlm"):
        settings["validation_examples"] = 500
    workload, given = workload_of(workload_name), contexts(workload_name, cache, (1, 3), **settings)
    together = workload.evaluate_stacked([build(name) for _ in given], given)
    assert together == [workload.evaluate(build(name), context) for context in given]
