"""What a step of the harness costs beside plain peft's in a loop by hand: ``pytest tests/benchmarks -s``."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import harness_lora
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import CaseContext, resolve
from harness.families.finetune.workloads.text_classification import TextClassification
from tests.declared import specs
from tests.families.finetune.by_hand import CONFIGS, ByHand
from tests.families.finetune.tiny import save_model, save_texts

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
"""The sizes of all-MiniLM-L6-v2, but for the vocabulary."""

PAIRS = 31
TECHNIQUES = {technique.id: technique for technique in harness_lora.register_techniques()}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_against_plain_peft_in_a_loop_by_hand(
    benchmark: BenchmarkFixture, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ratio of times, in turns, of a timed step to the hand's of the same batch; one thread."""
    torch.set_num_threads(1)
    sizes = MINILM if benchmark.enabled else {}
    model = save_model(tmp_path / "model", "bert", **sizes)
    own = {"model": str(model), "data": str(save_texts(tmp_path / "texts.csv")), "batch_size": 16}
    settings = {**specs("finetune")["text-classification"].settings, **own}
    settings |= {"train_examples": 48, "validation_examples": 24}
    context = CaseContext(
        seed=0, device="cpu", settings=settings, cache=tmp_path / "cache", phase=lambda _: nullcontext()
    )
    workload, technique = TextClassification(), TECHNIQUES[name]
    problem = workload._problem(context)
    hand = ByHand(name, model, "bert", problem, fused=True)
    opened = workload.open(resolve(technique.target)(**technique.params), context)
    harness = opened.phases["train"].run
    shown = problem.train.measured(problem.order, context.lane).batch()

    def by_hand() -> None:
        hand.step(shown)

    for act in (harness, by_hand, harness, by_hand):
        act()
    ratios = [_seconds(harness) / _seconds(by_hand) for _ in range(PAIRS if benchmark.enabled else 1)]
    benchmark.pedantic(harness, rounds=1)
    figures = {"technique": name, "tokens": shown["input_ids"].numel(), "ratio": round(statistics.median(ratios), 3)}
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\nstep: {figures}, quartiles {[round(x, 3) for x in _quartiles(ratios)]}\n")


def _quartiles(ratios: list[float]) -> list[float]:
    return statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios


def _seconds(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start
