"""What a trial of a fine-tuning counts is what its cases do, and what it prices is between what was timed."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import CaseContext
from harness.families.finetune.trial import SAMPLES, Price, spread
from harness.families.finetune.workloads.text_classification import TextClassification
from tests.declared import specs
from tests.families.finetune.techniques import Honest
from tests.families.finetune.tiny import save_model, save_texts

SPEC = specs("finetune")["text-classification"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    folder = tmp_path_factory.mktemp("trial")
    source = {"model": str(save_model(folder / "bert")), "data": str(save_texts(folder / "texts.csv", 300))}
    counts = {"train_examples": 150, "validation_examples": 40, "batch_size": 8, "steps": 7}
    return CaseContext(
        seed=0, device="cpu", settings={**SPEC.settings, **source, **counts}, cache=folder / "cache",
        phase=lambda _: nullcontext(),
    )  # fmt: skip


class Counting(TextClassification):
    """Counts forward passes: those in training mode are of steps, the others are predictions."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()

    def forward(self, model: Any, batch: Any) -> Any:
        self.did["step" if model.training else "prediction"] += 1
        return super().forward(model, batch)


@pytest.mark.parametrize("steps", [1, 7])
def test_a_case_takes_the_steps_and_batches_that_were_counted(steps: int, case: CaseContext) -> None:
    case = replace(case, settings={**case.settings, "steps": steps})
    counts = TextClassification().counts(case)
    workload = Counting()
    workload.material(case)
    probing = workload.did["prediction"]  # by the anatomy, in each load
    workload.did.clear()
    workload.evaluate(Honest(), case)
    assert workload.did == {"step": counts["step"], "prediction": counts["test batch"] + probing}
    assert counts["step"] == steps
    material = workload.material(case)
    shown = math.ceil(len(material.validation) / 2)  # of the training
    examples = shown + len(material.validation) + len(material.test)
    assert counts["test batch"] == math.ceil(examples / material.test_batch)


def test_a_trial_prices_all_that_is_counted_and_takes_few_steps(case: CaseContext) -> None:
    workload = Counting()
    found = workload.trial(Honest(), case)
    assert set(workload.counts(case)) <= set(found.seconds)
    assert {unit for units in (found.build, *found.phases.values()) for unit in units} <= set(found.seconds)
    assert all(seconds >= 0 for seconds in found.seconds.values())
    assert found.seconds["step"] > 0
    assert workload.did["step"] == 1 + SAMPLES
    assert set(found.phases) == set(SPEC.phases)


def test_the_longest_batches_of_the_training_and_of_the_test_are_part_of_a_trial(case: CaseContext) -> None:
    def largest(run: Any) -> dict[str, int]:
        seen: Counter[str] = Counter()

        class Sized(TextClassification):
            def forward(self, model: Any, batch: Any) -> Any:
                kind = "step" if model.training else "prediction"
                seen[kind] = max(seen[kind], batch["input_ids"].numel())
                return super().forward(model, batch)

        run(Sized())
        return dict(seen)

    tried = largest(lambda workload: workload.trial(Honest(), case))
    evaluated = largest(lambda workload: workload.evaluate(Honest(), case))
    assert tried["step"] == evaluated["step"]
    assert tried["prediction"] >= evaluated["prediction"]  # it also predicts the first batch of the training


@given(st.dictionaries(st.integers(1, 1000), st.floats(0.01, 10), min_size=1, max_size=5), st.integers(1, 1000))
def test_a_price_is_what_was_timed_and_lies_between(samples: dict[int, float], size: int) -> None:
    price = Price.of(list(samples.items()))
    assert [price(known) for known in sorted(samples)] == pytest.approx([samples[known] for known in sorted(samples)])
    assert min(samples.values()) - 1e-9 <= price(size) <= max(samples.values()) + 1e-9


def test_batches_of_a_cost_linear_in_their_size_are_priced_exactly() -> None:
    price = Price.of([(size, 0.1 + 0.02 * size) for size in (8, 24, 64)])
    assert [price(size) for size in (8, 16, 40, 64)] == pytest.approx([0.26, 0.42, 0.9, 1.38])


@given(st.integers(1, 40))
def test_batches_are_taken_at_even_distances_with_both_ends(count: int) -> None:
    taken = spread(list(range(count)))  # type: ignore[arg-type]
    assert len(taken) == min(count, SAMPLES)
    assert (taken[0], taken[-1]) == (0, count - 1)
