"""What only a CUDA device can show: ``make gpu``. Each test is skipped where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.api import CaseContext, OpenCase, Phase
from harness.execution.isolation.global_state import GlobalState
from harness.families.finetune.workloads.digits_mlp import DigitsMlp
from harness.judge import graphs, training
from harness.judge.fresh import FreshBatches
from harness.judge.timed import RepeatedStep
from harness.measure import clock, gpu, memory
from tests.declared import specs
from tests.families.finetune.techniques import Honest
from tests.judge.test_graphs import LOSS, Adapted, step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SUITES = sorted(
    file.stem for file in (Path(__file__).parents[1] / "suites").glob("*/*.toml") if file.parent.name != "softmax"
)
NO_ANSWER = {"error", "crash", "lost", "incorrect", "timeout"}


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_a_quick_run_of_every_suite_has_no_row_that_failed(suite, tmp_path) -> None:
    command = [sys.executable, "-m", "harness", "run", "--suite", suite, "--quick", "--device", "cuda"]
    subprocess.run([*command, "--store", str(tmp_path)], check=True, capture_output=True, text=True, timeout=3600)
    (lines,) = [file.read_text().splitlines() for file in tmp_path.rglob("rows.jsonl")]
    rows = [json.loads(line) for line in lines]
    assert rows
    assert [(row["technique"], row["status"], row["reason"]) for row in rows if row["status"] in NO_ANSWER] == []


def work(size=4096, times=20):
    x = torch.ones(size, size, device="cuda", dtype=torch.bfloat16)
    for _ in range(times):
        x = x @ x * 0
    return x


def test_work_on_a_stream_of_its_own_is_timed_like_work_on_the_default_one() -> None:
    beside = torch.cuda.Stream()

    def hidden():
        with torch.cuda.stream(beside):
            return work()

    for run in (work, hidden):
        clock.warm_up(run, device="cuda")
    seconds = {run.__name__: clock.take(run, repeats=5, device="cuda").seconds for run in (work, hidden)}
    # the unseen form of the first would be a hundredth: launches only
    assert seconds["hidden"] > 0.5 * seconds["work"]


def test_the_peaks_of_a_phase_are_those_of_its_tensors() -> None:
    def train():
        return torch.empty(64 << 20, dtype=torch.uint8, device="cuda").sum()

    def infer():
        return torch.empty(8 << 20, dtype=torch.uint8, device="cuda").sum()

    trial = OpenCase(phases={"train": Phase(run=train, samples=1), "infer": Phase(run=infer, samples=1)})
    peaks = memory.cuda_peaks(lambda: trial, lambda _: nullcontext(), "cuda")
    assert 64 << 20 <= peaks["train_tensor_peak"] < 80 << 20
    assert 8 << 20 <= peaks["infer_tensor_peak"] < 24 << 20
    assert peaks["infer_process_peak"] >= peaks["infer_tensor_peak"]


def test_float32_products_have_the_digits_of_float32() -> None:
    gpu.compute_in_full()
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(256, 256, generator=draw).cuda() for _ in range(2))
    exact = first.double() @ second.double()
    assert float(((first @ second).double() - exact).norm() / exact.norm()) < 1e-5  # TF32 has 5e-4


def test_a_changed_current_stream_is_told() -> None:
    state = GlobalState()
    before = torch.cuda.current_stream()
    try:
        torch.cuda.set_stream(torch.cuda.Stream())
        assert any(line.startswith("the current stream") for line in state.changed())
    finally:
        torch.cuda.set_stream(before)


def test_replayed_graphs_have_the_gradients_of_an_untouched_copy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).cuda()
    trains = Adapted(
        model=model, optimizer=training.adamw([{"params": list(model.parameters()), "lr": 1e-2}], 0.0)
    )  # fmt: skip
    batch = {"x": torch.randn(6, 5).cuda(), "labels": (torch.arange(6) % 3).cuda()}
    train = RepeatedStep(trains, FreshBatches(batch), step, captured=True)
    train.refresh()
    for _ in range(5):
        train.verify(train())
    assert LOSS(model, batch).isfinite()


def test_a_read_of_a_value_cannot_be_captured() -> None:
    from harness.api import Unavailable

    captured = graphs.Captured(lambda batch: batch["x"].sum().item(), "its prediction")
    with pytest.raises(Unavailable, match="cannot be captured in a CUDA graph"):
        captured({"x": torch.ones(2, device="cuda")})


def test_cases_that_share_a_recording_have_the_numbers_of_each_alone(tmp_path) -> None:
    workload, settings = DigitsMlp(), {**specs()["digits-mlp"].settings, "steps": 5}
    contexts = [
        CaseContext(seed=seed, device="cuda", settings=settings, cache=tmp_path, phase=lambda _: nullcontext())
        for seed in (0, 4)
    ]
    workload.prepare(contexts[0])
    alone = [workload.evaluate(Honest(), context) for context in contexts]
    assert workload.evaluate_stacked([Honest() for _ in contexts], contexts) == alone
