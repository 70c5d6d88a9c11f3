"""What is timed in rotation has content of its own in every call, most of it made when nothing is timed."""

from __future__ import annotations

import pytest
import torch

from harness.families.quantize.contract import Packed
from harness.families.quantize.rotation import RotatedPacked, RotatedWeights, _Renewed
from harness.judge import machine
from harness.judge.machine import FIRST_CALLS, Rotation

ROWS = 64
COPIES = 12


@pytest.fixture
def few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MOST_COPIED", COPIES * 4 * ROWS * 8)


def packed(seed: int, *, rest: int = 0) -> Packed:
    """Return a packed weight of 64 rows in 4 bytes a number; with a ``rest``, one tensor is no whole number of rows."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"codes": torch.randint(2**31, (ROWS, 8), generator=generator, dtype=torch.int32)}
    if rest:
        tensors["rest"] = torch.randn(rest, generator=generator)
    return Packed(tensors=tensors, shape=(ROWS, 8), dtype=torch.float32)


@pytest.mark.usefixtures("few_copies")
@pytest.mark.parametrize("calls", [1, 5, 50])
def test_no_call_has_numbers_that_a_call_before_had(calls: int) -> None:
    weights = RotatedWeights(torch.randn(ROWS, 8))
    for _ in range(FIRST_CALLS):
        weights()
    seen = []
    for _ in range(6):
        weights.refresh()
        seen += [weights().sum().item() for _ in range(calls)]
    assert len(set(seen)) == len(seen)


@pytest.mark.usefixtures("few_copies")
@pytest.mark.parametrize("calls", [1, 5, 50])
def test_no_call_has_codes_that_a_call_before_had(calls: int) -> None:
    first = packed(0)
    rotation = RotatedPacked(first, lambda: packed(1), rows=ROWS)
    for _ in range(FIRST_CALLS):
        rotation()
    seen = []
    for _ in range(6):
        rotation.refresh()
        seen += [tuple(rotation().tensors["codes"].flatten().tolist()) for _ in range(calls)]
    assert len(set(seen)) == len(seen)
    rows = {row.numpy().tobytes() for seed in (0, 1) for row in packed(seed).tensors["codes"]}
    assert all(row.numpy().tobytes() in rows for codes in seen[-9:] for row in torch.tensor(codes).int().view(ROWS, 8))


@pytest.mark.usefixtures("few_copies")
def test_where_tensors_are_no_whole_rows_every_sample_has_another_weight() -> None:
    made = iter(range(1, 100))
    rotation = RotatedPacked(packed(0, rest=3), lambda: packed(next(made), rest=3), rows=ROWS)
    for _ in range(FIRST_CALLS):
        rotation()
    samples = []
    for _ in range(5):
        rotation.refresh()
        samples.append({rotation().tensors["rest"].sum().item() for _ in range(4)})
    assert all(first.isdisjoint(second) for first in samples for second in samples if first is not second)


def test_what_has_its_turn_far_ahead_is_not_renewed_and_the_rest_outside_of_calls() -> None:
    renewed: list[int] = []
    rotation = Rotation([0], 1, lambda _: [0])
    rotation._count = 30
    renewing = _Renewed(rotation, lambda item: renewed.append(id(item)))
    for _ in range(FIRST_CALLS + 7):
        renewing()
    renewing.refresh()
    assert renewed == []
    for calls in (8, 9, 10, 8, 10, 9):
        before = len(renewed)
        for _ in range(calls):
            renewing()
        assert len(renewed) == before
        renewing.refresh()
    assert 30 < len(renewed) < FIRST_CALLS + 7 + 54  # fewer than were used
    before = len(renewed)
    for _ in range(40):  # more than was foreseen
        renewing()
    assert len(renewed) > before
