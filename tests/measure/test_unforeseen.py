"""The random bits of data: the system's where calls are timed, and a seed's where peaks are measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.api import Case, Limits
from harness.execution.case import load
from harness.execution.job import Job, Task
from harness.judge.fresh import FreshBatches
from harness.measure.unforeseen import follow
from tests.execution.conftest import make_case


@pytest.fixture(autouse=True)
def unforeseen_again() -> Iterator[None]:
    yield
    follow(None)


def batches() -> list[torch.Tensor]:
    fresh = FreshBatches({"inputs": torch.arange(64.0).view(16, 4)})
    return [fresh()["inputs"].clone() for _ in range(3)]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def test_fresh_batches_follow_from_a_seed_where_they_are_told_to_and_never_otherwise() -> None:
    found = []
    for seed in (3, 3, 4, None, None):
        follow(seed)
        found.append(batches())
    assert same(found[0], found[1])
    assert not any(same(found[number], found[number + 1]) for number in (1, 2, 3))


@pytest.mark.parametrize("task", ["peaks", "tensor_peak", "evaluate", "check", "contest"])
def test_only_where_peaks_are_measured_do_data_follow_from_the_seed(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "execution")
    case: Case = make_case("Grown", seed=7)
    found = []
    for _ in range(2):
        load(Job(case=case, task=task, cache=Path(), limits=Limits(time_s=1.0)))
        found.append(batches())
    assert same(*found) == ("peak" in task)
