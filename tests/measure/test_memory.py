"""Peaks of memory, against what is known to be held. (In processes of their own: tests/execution/test_local.py.)"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import NotApplicable, OpenCase, Phase
from harness.measure import memory


def trial(train, infer):
    return OpenCase(phases={"train": Phase(run=train, samples=1), "infer": Phase(run=infer, samples=1)})


def phase(_):
    return nullcontext()


@settings(max_examples=5)
@given(st.lists(st.integers(1, 5000), min_size=3, max_size=3))
def test_tensor_peak_is_the_bytes_alive_at_once(sizes):
    import torch

    held, transient, more = sizes
    before = torch.zeros(1000)  # what lives before the build does not count, nor does its end

    def build():
        nonlocal before
        weights = torch.zeros(held)
        before = None

        def train():
            first = torch.zeros(transient)
            del first
            second = torch.zeros(more)
            third = torch.zeros(7)
            del second, third

        def infer():
            assert weights.numel() == held

        return trial(train, infer)

    peaks = memory.tensor_peaks(build, phase)
    assert peaks == {
        "build_tensor_peak": 4 * held,
        "train_tensor_peak": 4 * (held + max(transient, more + 7)),
        "infer_tensor_peak": 4 * held,
    }


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(-50, 50))),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_the_peak_of_a_span_is_its_highest_running_sum(changes, start, length):
    changes.sort(key=lambda change: change[0])
    end = start + length
    before = sum(size for when, size in changes if when < start)
    inside = [size for when, size in changes if start <= when <= end]
    expected = max(before + sum(inside[:count]) for count in range(len(inside) + 1))
    assert memory._peak(changes, start, end) == expected or (not inside and before < 0)


def test_a_phase_is_measured_in_its_third_call():
    calls = []
    inside = []

    def mark(name):
        inside.append((name, len(calls)))
        return nullcontext()

    memory._walk(lambda: trial(lambda: calls.append("train"), lambda: calls.append("infer")), mark)
    assert calls == ["train"] * 3 + ["infer"] * 3
    assert inside == [("build", 0), ("train", 2), ("infer", 5)]


def test_where_the_mark_cannot_be_reset_a_note_says_what_is_counted(monkeypatch):
    def refuse():
        raise PermissionError("read-only")

    monkeypatch.setattr(memory, "_reset_high_water", refuse)
    peaks, notes = memory.process_peaks(lambda: trial(lambda: None, lambda: None), phase)
    assert list(peaks) == ["build_process_peak", "train_process_peak", "infer_process_peak"]
    assert notes == ["process_peak includes all earlier phases: this system cannot reset the high-water mark"]


def test_devices_without_a_peak_are_not_applicable():
    memory.require_peaks("cpu")
    memory.require_peaks("cuda:1")
    with pytest.raises(NotApplicable, match="mps records no peak"):
        memory.require_peaks("mps")


def test_a_process_that_is_gone_has_no_memory():
    assert memory.resident_bytes() > 1 << 20
    with pytest.raises(ProcessLookupError):
        memory.resident_bytes(2**22 + 1)
