"""What the harness trains is what plain peft and a loop written by hand train: the same losses, the same memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import harness_lora
import pytest

from harness.api import CaseContext, OpenCase, Phase, resolve
from harness.families.finetune.workloads.text_classification import TextClassification
from harness.judge.fresh import FreshBatches
from harness.measure.memory import tensor_peaks
from tests.declared import specs
from tests.families.finetune.by_hand import CONFIGS, ByHand
from tests.families.finetune.tiny import save_model, save_texts

SPEC = specs("finetune")["text-classification"]
TECHNIQUES = {technique.id: technique for technique in harness_lora.register_techniques()}


def technique(name: str) -> Any:
    return resolve(TECHNIQUES[name].target)(**TECHNIQUES[name].params)


@pytest.fixture(scope="module", params=["bert", "llama"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CaseContext]:
    """Return a kind of models, and the context of a case on a tiny model of it."""
    folder = tmp_path_factory.mktemp("model")
    model = save_model(folder / request.param, request.param)
    own = {"model": str(model), "data": str(save_texts(folder / "texts.csv")), "steps": 12, "batch_size": 4}
    settings = {**SPEC.settings, **own, "train_examples": 48, "validation_examples": 24}
    context = CaseContext(
        seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext()
    )
    return request.param, context


@pytest.mark.parametrize("name", CONFIGS)
def test_every_loss_is_that_of_plain_peft_in_a_loop_by_hand(name: str, case: tuple[str, CaseContext]) -> None:
    """To the rounding of another order of sums: the hand pads each batch to the longest text of all."""
    kind, context = case
    found = TextClassification().evaluate(technique(name), context).series["train_loss"]
    problem = TextClassification()._problem(context)
    expected = ByHand(name, Path(str(context.settings["model"])), kind, problem).train(problem)
    assert found == pytest.approx(expected, rel=1e-5)
    assert len(expected) == 12


@pytest.fixture
def frozen() -> Iterator[None]:
    """Spare the collector, which the memory lane calls often, what the tests have imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_tensor_peak_is_that_of_plain_peft_in_a_loop_by_hand(name: str, case: tuple[str, CaseContext]) -> None:
    """To the byte, by the same counter and on data drawn in the same way."""
    kind, context = case
    workload = TextClassification()
    workload.prepare(context)

    def by_hand() -> OpenCase:
        problem = workload._problem(context)
        fresh = FreshBatches(problem.train.measured(problem.order, context.lane).batch())
        hand = ByHand(name, Path(str(context.settings["model"])), kind, problem, fused=True)
        return OpenCase(phases={"train": Phase(run=lambda: hand.step(fresh()), samples=context.settings["batch_size"])})

    found = tensor_peaks(lambda: workload.open(technique(name), context), context.phase)
    expected = tensor_peaks(by_hand, context.phase)
    assert found["train_tensor_peak"] == expected["train_tensor_peak"]
