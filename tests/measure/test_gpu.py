"""What is measured on a CUDA device, by an imitation of one: all streams are timed, peaks are those of a phase."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from harness.api import OpenCase, Phase
from harness.measure import clock, gpu, memory
from tests.measure.imitated import imitate


@pytest.fixture
def device(monkeypatch):
    yield imitate(monkeypatch)
    clock.bound.cache_clear()


def test_what_a_call_queues_is_timed_until_it_is_done(device):
    sample = clock.take(lambda: device.launch(0.002), repeats=3, device="cuda")
    assert sample.seconds == pytest.approx(0.002)


def test_work_on_another_stream_is_timed(device):
    def run():
        device.launch(0.001)
        device.launch(0.009, device.side)

    assert clock.take(run, repeats=2, device="cuda").seconds == pytest.approx(0.009)


def test_another_current_stream_does_not_move_the_events(device):
    clock.bound("cuda")
    device.current = device.side
    assert clock.take(lambda: device.launch(0.004), repeats=2, device="cuda").seconds == pytest.approx(0.004)


def test_a_replaced_synchronize_ends_no_sample_early(device, monkeypatch):
    clock.bound("cuda")
    for owner, name in ((torch.cuda, "synchronize"), (torch._C, "_cuda_synchronize")):
        monkeypatch.setattr(owner, name, lambda *_: None)
    assert clock.take(lambda: device.launch(0.004), repeats=1, device="cuda").seconds == pytest.approx(0.004)
    with clock.PhaseClock("cuda")("train"):
        began = device.now
        device.launch(0.5)
    assert device.now - began == pytest.approx(0.5)


def test_events_that_tell_too_little_shorten_no_sample(device, monkeypatch):
    monkeypatch.setattr(torch.cuda.Event, "elapsed_time", lambda *_: 0.0)
    assert clock.take(lambda: device.launch(0.004), repeats=1, device="cuda").seconds == pytest.approx(0.004)


def test_the_peaks_of_a_phase_are_not_those_of_an_earlier_one(device):
    def train():
        device.allocate(1000)
        device.allocate(-1000)

    def infer():
        device.allocate(10)
        device.allocate(-10)

    def build():
        device.allocate(100)
        return OpenCase(phases={"train": Phase(run=train, samples=1), "infer": Phase(run=infer, samples=1)})

    peaks = memory.cuda_peaks(build, lambda _: nullcontext(), "cuda")
    assert {name: peaks[f"{name}_tensor_peak"] for name in ("build", "train", "infer")} == {
        "build": 100.0, "train": 1100.0, "infer": 110.0,
    }  # fmt: skip
    assert peaks["infer_process_peak"] == 110.0


@pytest.mark.parametrize(("before", "after"), [(None, "0"), ("2,3", "2"), ("GPU-7c1f,1", "GPU-7c1f"), ("", "")])
def test_a_worker_sees_one_device_of_those_that_the_user_lets_it_see(monkeypatch, before, after):
    monkeypatch.delenv(gpu.VISIBLE, raising=False)
    if before is not None:
        monkeypatch.setenv(gpu.VISIBLE, before)
    else:
        monkeypatch.setenv(gpu.VISIBLE, "")  # so that it is put back
        monkeypatch.delenv(gpu.VISIBLE)
    gpu.see_one()
    assert os.environ[gpu.VISIBLE] == after
    gpu.see_one("GPU-9")
    assert os.environ[gpu.VISIBLE] == "GPU-9"


def test_float32_is_computed_in_float32():
    before = torch.backends.cudnn.allow_tf32
    try:
        gpu.compute_in_full()
        found = gpu.settings()
        assert not any(found[name] for name in ("TF32 in convolutions", "TF32 in products"))
        assert not any(value for name, value in found.items() if name.startswith("reduced precision"))
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_a_precision_that_was_set_by_torch_s_newer_name_is_told_and_ends_no_case():
    code = (
        "import torch; from harness.execution.isolation.global_state import GlobalState; state = GlobalState();"
        "torch.backends.fp32_precision = 'tf32'; print(*state.changed(), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the precision of float32 products is set in two ways, was highest" in done.stdout


@pytest.mark.usefixtures("device")
def test_a_process_with_a_context_is_not_forked():
    from harness.execution.isolation import forkserver

    assert forkserver.cannot_fork()
