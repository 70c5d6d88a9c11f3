"""Contestants of ``softmax`` that want to win the time lane without computing are found; an honest one is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.api import CaseContext, Incorrect
from harness.families.softmax import timing
from harness.families.softmax.timing import require_rows
from harness.families.softmax.workloads import Rows
from harness.judge import machine
from tests.families.conftest import Context
from tests.families.softmax.softmaxes import Right
from tests.families.timed import found_in_time

SMALL = {"rows": 4, "columns": 64, "cached_columns": 256, "times_cache": 1}


@pytest.fixture
def case(context: Context, monkeypatch: pytest.MonkeyPatch) -> CaseContext:
    monkeypatch.setattr(machine, "MOST_COPIED", 1 << 20)
    monkeypatch.setattr(timing, "PLACES", 4)  # few, so that each has its turn again soon
    return context("rows", **SMALL)


class Nothing(Right):
    """Computes nothing in rows longer than those of the gate."""

    def softmax(self, x: Tensor, out: Tensor) -> None:
        if x.shape[1] <= 1 << 17:
            super().softmax(x, out)


class LastOnly(Right):
    """Computes the last element only, in rows that are timed."""

    def softmax(self, x: Tensor, out: Tensor) -> None:
        if x.shape[1] in (64, 256):
            out[-1, -1] = self.of(x.double())[-1, -1]
        else:
            super().softmax(x, out)


class KeptByAddress(Right):
    """Keeps probabilities by the address of the numbers."""

    def __init__(self) -> None:
        self.kept: dict[Any, Tensor] = {}

    def softmax(self, x: Tensor, out: Tensor) -> None:
        key = (x.data_ptr(), tuple(x.shape))
        if key not in self.kept:
            self.kept[key] = self.of(x.double()).float()
        out.copy_(self.kept[key])


class KeptByBeginning(Right):
    """Keeps probabilities by the first number of the rows, which is another one in most calls."""

    def __init__(self) -> None:
        self.kept: dict[Any, Tensor] = {}

    def softmax(self, x: Tensor, out: Tensor) -> None:
        key = (round(float(x[0, 0])), tuple(x.shape))
        if key not in self.kept:
            self.kept[key] = self.of(x.double()).float()
        out.copy_(self.kept[key])


class OnceWritten(Right):
    """Writes an output once, and finds it still there."""

    def __init__(self) -> None:
        self.written: set[int] = set()

    def softmax(self, x: Tensor, out: Tensor) -> None:
        if out.data_ptr() not in self.written:
            super().softmax(x, out)
            self.written.add(out.data_ptr())


class WindowKept(Right):
    """Keeps the exponentials of all rows that overlap, until the first number of these is another one."""

    def __init__(self) -> None:
        self.kept: dict[float, Tensor] = {}

    def softmax(self, x: Tensor, out: Tensor) -> None:
        if x.shape != (1, 256):
            super().softmax(x, out)
            return
        start = x.storage_offset()
        window = torch.as_strided(x, (256 + 16 * 4,), (1,), 0)  # of the whole memory
        if float(window[0]) not in self.kept:
            self.kept = {float(window[0]): window.double().exp()}
        powers = next(iter(self.kept.values()))[start : start + 256]
        out.copy_(powers / powers.sum())


class OutputOfTheLongRow(Right):
    """Takes the probabilities that the long row left where rows of it lie, and makes each row's sum 1."""

    def softmax(self, x: Tensor, out: Tensor) -> None:
        if x.shape == (4, 64) and out[0, 0] > 0:
            out /= out.double().sum(1, keepdim=True)
        else:
            super().softmax(x, out)


class ChangedTileOnly(Right):
    """Computes those parts of the long row anew of which a sample of numbers has changed."""

    def __init__(self) -> None:
        self.kept: tuple[Tensor, Tensor] | None = None

    def softmax(self, x: Tensor, out: Tensor) -> None:
        if x.shape[1] <= 1 << 17:
            super().softmax(x, out)
            return
        sample = x[0, ::64].clone()
        if self.kept is None:
            self.kept = sample, x.double().exp()
        known, powers = self.kept
        for place in (known != sample).nonzero().flatten().tolist():
            part = slice(64 * place - 64, 64 * place + 64)
            powers[0, part] = x[0, part].double().exp()
        self.kept = sample, powers
        out.copy_(powers / powers.sum())


def test_an_honest_technique_passes(case: CaseContext) -> None:
    assert found_in_time(Rows(), Right(), case) == ""


CHEATS = [
    (Nothing, "long_row"),
    (LastOnly, "cold_rows"),
    (LastOnly, "cached_row"),
    (KeptByAddress, "long_row"),
    (KeptByAddress, "cached_row"),
    (KeptByBeginning, "cached_row"),
    (OnceWritten, "long_row"),
    (OnceWritten, "cached_row"),
    (WindowKept, "cached_row"),
    (ChangedTileOnly, "long_row"),
]


@pytest.mark.parametrize(("cheat", "phase"), CHEATS)
def test_probabilities_that_were_not_computed_are_found(cheat: type[Right], phase: str, case: CaseContext) -> None:
    found = found_in_time(Rows(), cheat(), case, [phase])
    assert found.startswith(f"{phase}: ")
    assert found.endswith("probabilities are not those of the definition")


def test_the_output_of_another_phase_does_not_stand_for_one_that_was_not_computed(
    case: CaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "TILE", 64)  # of a long row the most stays as it is
    found = found_in_time(Rows(), OutputOfTheLongRow(), case, ["long_row", "cold_rows"])
    assert found.startswith("cold_rows: ")
    assert found.endswith("probabilities are not those of the definition")


@pytest.mark.parametrize("columns", [1, 7, 4096, (1 << 20) + 3])
def test_what_is_right_in_float64_is_right_here_and_an_error_in_one_place_is_found(columns: int) -> None:
    x = torch.randn(3, columns, generator=torch.Generator().manual_seed(0))
    out = torch.softmax(x.double(), 1).float()
    require_rows(x, out)
    for wrong in (float("nan"), 1.001 * float(out[1, columns // 2])):
        changed = out.clone()
        changed[1, columns // 2] = wrong
        with pytest.raises(Incorrect, match=r"^1 of [\d,]+ probabilities"):
            require_rows(x, changed)


def in_turn(x: Tensor) -> Tensor:
    """The softmax of a row whose exponentials are added up in 16 float32 sums, each one number after the other."""
    lanes = (x - x.amax()).exp_().view(-1, 16)
    sums = torch.zeros(16)
    for block in lanes.split(1 << 12):
        sums += block.cumsum(0)[-1]  # cumsum adds one after the other
    return (lanes / sums.sum()).view(1, -1)


def test_a_long_row_may_be_added_up_in_float32_and_may_leave_nothing_out() -> None:
    x = torch.randn(1, 1 << 20, generator=torch.Generator().manual_seed(0))
    out = in_turn(x)
    require_rows(x, out)
    with pytest.raises(Incorrect, match="probabilities are not those of the definition"):
        require_rows(x, out * (1 + 1 / 2**10))  # as where a thousandth of the row is left out of the sum
