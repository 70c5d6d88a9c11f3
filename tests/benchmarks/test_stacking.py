"""What training seeds together gains over training them one after the other: ``pytest tests/benchmarks -s``."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from harness_lora.masks import Full
from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import CaseContext
from harness.families.finetune.workloads.digits_mlp import DigitsMlp as FinetunedMlp
from harness.families.regularize.checks import Nothing
from harness.families.regularize.workloads.digits import DigitsMlp
from tests.declared import specs

SETTINGS = specs()["digits-noisy"].settings
PAIRS = 5


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.thorough
def test_seeds_together_against_a_fused_loop_over_them(
    benchmark: BenchmarkFixture, tmp_path: Path, seeds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ratio of times, in turns, of a loop with the fused optimiser to one batched training; one thread."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    workload = DigitsMlp()
    contexts = [
        CaseContext(seed=seed, device=device, settings=SETTINGS, cache=tmp_path, phase=lambda _: nullcontext())
        for seed in range(seeds)
    ]
    workload.prepare(contexts[0])

    def loop() -> None:
        for context in contexts:
            workload.evaluate(Nothing(), context)

    def together() -> None:
        workload.evaluate_stacked([Nothing() for _ in contexts], contexts)

    ratios = [_seconds(loop) / _seconds(together) for _ in range(PAIRS if benchmark.enabled else 1)]
    benchmark.pedantic(together, rounds=1)
    figures = {"device": device, "seeds": seeds, "gain": round(statistics.median(ratios), 2)}
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\nstacking: {figures}, pairs {[round(ratio, 2) for ratio in ratios]}\n")


@pytest.mark.thorough
def test_two_trainings_of_finetune_together_against_one_after_the_other(
    benchmark: BenchmarkFixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ratio of times, in turns, of two trainings alone to the same two by repeating recorded steps; one thread."""
    torch.set_num_threads(1)
    workload = FinetunedMlp()
    settings = specs()["digits-mlp"].settings
    contexts = [
        CaseContext(seed=seed, device="cpu", settings=settings, cache=tmp_path, phase=lambda _: nullcontext())
        for seed in range(2)
    ]
    workload.prepare(contexts[0])

    def alone() -> None:
        for context in contexts:
            workload.evaluate(Full(), context)

    def together() -> None:
        workload.evaluate_stacked([Full() for _ in contexts], contexts)

    ratios = [_seconds(alone) / _seconds(together) for _ in range(PAIRS if benchmark.enabled else 1)]
    benchmark.pedantic(together, rounds=1)
    figures = {"seeds": len(contexts), "gain": round(statistics.median(ratios), 2)}
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\nstacking of finetune: {figures}, pairs {[round(ratio, 2) for ratio in ratios]}\n")


def _seconds(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
