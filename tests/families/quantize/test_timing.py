"""Contestants of ``quantize`` that want to win the time lane without computing are found, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.api import CaseContext, Incorrect
from harness.families.quantize.contract import Packed
from harness.families.quantize.timing import _require_same
from harness.families.quantize.workloads.weights import Weights
from harness.judge import machine
from tests.families.conftest import Context
from tests.families.quantize.quantizers import Right
from tests.families.timed import found_in_time

SMALL = {"rows": 96, "columns": 2048, "packed_rows": 8}


@pytest.fixture(scope="module")
def case(context: Context) -> CaseContext:
    return context("weights", **SMALL)


class Memo(Right):
    """Keeps products by the addresses of inputs and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Any, Tensor] = {}

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        key = (x.data_ptr(), tuple(x.shape))
        if key not in self.kept:
            self.kept[key] = super().linear(x, packed)
        return self.kept[key]


class MemoOfContent(Right):
    """Keeps products by a few numbers of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Any, Tensor] = {}

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        key = (tuple(x.shape), round(float(x.abs().mean()), 1))
        if key not in self.kept:
            self.kept[key] = super().linear(x, packed)
        return self.kept[key]


class LargeShapes(Right):
    """Gives zeros where the weight is larger than any of the gate's."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        if packed.shape[1] >= 2048:
            return x.new_zeros(len(x), packed.shape[0])
        return super().linear(x, packed)


class LastOnly(Right):
    """Computes the element that used to be looked at."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        out = x.new_zeros(len(x), packed.shape[0])
        out[-1, -1] = super().linear(x[-1:], packed)[0, -1]
        return out


class OneRowShort(Right):
    """Leaves one output out."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        out = super().linear(x, packed)
        out[:, 17] = 0
        return out


class InInference(Right):
    """Computes nothing where gradients are off and the batch is one of the timed ones."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        if len(x) == 8:
            return torch.zeros(len(x), packed.shape[0], dtype=x.dtype)
        return super().linear(x, packed)


class Later(Tensor):
    """A tensor that is computed where it is looked at."""


class TrivialWeight(Right):
    """Dequantises a large weight to one number once it was called often, so that its products are sums of inputs."""

    calls = 0

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        if packed.shape[1] < 2048:
            return super().linear(x, packed)
        TrivialWeight.calls += 1
        if self.calls < 5:
            return super().linear(x, packed)
        return (1e-3 * x.sum(1, keepdim=True)).repeat(1, packed.shape[0])

    def dequantize(self, packed: Packed) -> Tensor:
        if packed.shape[1] < 2048 or self.calls < 5:
            return super().dequantize(packed)
        return torch.full(packed.shape, 1e-3, dtype=packed.dtype)


class Subclass(Right):
    """Gives a tensor of a class of its own."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return super().linear(x, packed).as_subclass(Later)


class FirstPacked(Right):
    """Gives the first weight that it packed of a shape again."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Any, Packed] = {}

    def quantize(self, weight: Tensor) -> Packed:
        kept = self.kept.setdefault(tuple(weight.shape), super().quantize(weight))
        return replace(kept, tensors={name: tensor.clone() for name, tensor in kept.tensors.items()})


class KeptWeight(Right):
    """Unpacks each address once."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}

    def dequantize(self, packed: Packed) -> Tensor:
        address = next(iter(packed.tensors.values())).data_ptr()
        if address not in self.kept:
            self.kept[address] = super().dequantize(packed)
        return self.kept[address].clone()


class PlainByAddress(Right):
    """Multiplies with the dequantised weight, which it keeps for each packed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Any, Tensor] = {}

    def key(self, packed: Packed) -> Any:
        return packed.shape, packed.dtype, packed.tensors["codes"].data_ptr()

    def plain(self, packed: Packed) -> Tensor:
        key = self.key(packed)
        if packed.shape[1] < 2048:
            return super().dequantize(packed)
        if key not in self.kept:
            self.kept[key] = super().dequantize(packed)
        return self.kept[key]

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return (x.float() @ self.plain(packed).float().T).to(x.dtype)


class PlainByShape(PlainByAddress):
    """Keeps the first weight of a shape."""

    def key(self, packed: Packed) -> Any:
        return packed.shape, packed.dtype


class PlainByItsBeginning(PlainByAddress):
    """Knows a weight by its first codes and its scales."""

    def key(self, packed: Packed) -> Any:
        beginnings = [tensor.view(-1)[:16].clone().view(torch.uint8) for tensor in packed.tensors.values()]
        return packed.shape, packed.dtype, tuple(torch.cat(beginnings).tolist())


class PlainBothTimes(PlainByShape):
    """Gives the weight that it kept where it is asked for the dequantised one, too."""

    def dequantize(self, packed: Packed) -> Tensor:
        return self.plain(packed).clone()


class FitsNothing(PlainBothTimes):
    """Multiplies with nothing but the first weight, so that its codes would not be changed singly."""

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        self.calls = getattr(self, "calls", 0) + (packed.shape[1] >= 2048)
        return super().linear(x, packed) * (2 if self.calls == 1 and packed.shape[1] >= 2048 else 1)


def test_an_honest_technique_passes(case: CaseContext) -> None:
    assert found_in_time(Weights(), Right(), case) == ""


def test_tensors_are_compared_bit_by_bit_scalars_too() -> None:
    scalar = torch.tensor(float("nan"))
    _require_same({"mean": scalar}, {"mean": scalar.clone()}, "packing again")
    with pytest.raises(Incorrect, match="gives another mean"):
        _require_same({"mean": torch.tensor(0.0)}, {"mean": torch.tensor(-0.0)}, "packing again")


class WithSums(Right):
    """Keeps the sum of each row beside the codes, so that single codes cannot be exchanged: honest all the same."""

    def quantize(self, weight: Tensor) -> Packed:
        packed = super().quantize(weight)
        sums = super().dequantize(packed).double().reshape(-1, max(1, weight.shape[-1])).sum(1)
        return replace(packed, tensors={**packed.tensors, "sums": sums})

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        weight = super().dequantize(packed).double()
        shift = (packed.tensors["sums"] - weight.sum(1)) / weight.shape[1]
        return (x.double() @ (weight + shift[:, None]).T).to(x.dtype)


def test_an_honest_technique_whose_tensors_depend_on_each_other_passes(
    case: CaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MOST_COPIED", 1)
    assert found_in_time(Weights(), WithSums(), case, ["linear1", "linear8"]) == ""


@pytest.mark.parametrize("cheat", [Memo, MemoOfContent, LargeShapes, LastOnly, OneRowShort, InInference, Subclass])
def test_products_that_were_not_computed_are_found(cheat: type[Right], case: CaseContext) -> None:
    assert found_in_time(Weights(), cheat(), case).startswith(("linear1: the ", "linear8: the ", "linear64: the "))


def test_a_weight_that_changes_where_nobody_looks_is_found(case: CaseContext) -> None:
    found = found_in_time(Weights(), TrivialWeight(), case, ["linear1"])
    assert found == "linear1: the weight is dequantised to other values than before the timed calls"


@pytest.mark.parametrize(
    "cheat",
    [PlainByAddress, PlainByShape, PlainByItsBeginning, PlainBothTimes, FitsNothing],
    ids=lambda cheat: cheat.__name__,
)
@pytest.mark.parametrize("phase", ["linear1", "linear64"])
def test_a_plain_weight_that_was_kept_is_found(
    cheat: type[Right], phase: str, case: CaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MOST_COPIED", 1)  # two copies, so that each has its turn again soon
    assert found_in_time(Weights(), cheat(), case, [phase]).startswith(
        (f"{phase}: the product is", f"{phase}: the weight")
    )


@pytest.mark.parametrize(("cheat", "phase"), [(FirstPacked, "quantize"), (KeptWeight, "dequantize")])
def test_what_was_packed_or_unpacked_before_is_found(
    cheat: type[Right], phase: str, case: CaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MOST_COPIED", 1)  # two copies, so that each has its turn again soon
    assert found_in_time(Weights(), cheat(), case, [phase]).startswith(f"{phase}: ")
