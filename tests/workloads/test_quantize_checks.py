"""The correctness gate lets a right quantiser through and catches every kind of wrong one, with what shows it."""

from __future__ import annotations

import re

import pytest
import torch

from harness.api import Incorrect, NotApplicable
from harness.workloads.quantize import Packed
from harness.workloads.quantize_checks import require_correct
from tests.workloads import quantizers
from tests.workloads.quantizers import Right

FAULTS = {
    quantizers.WrongCode: "values differ from the definition",
    quantizers.WrongTail: r"shape \(6, 200\).*differ from the definition",
    quantizers.WrongOnZeros: "of zeros: .* differ from the definition",
    quantizers.WrongForOtherBlocks: "differ from the definition",
    quantizers.WrongProduct: "linear of 1 inputs of torch.float32 .* off by",
    quantizers.WrongBatch: "linear of 64 inputs .* off by",
    quantizers.LeakingProduct: "the two sound ones of 3 inputs",
    quantizers.SwallowingProduct: "swallows the NaN of one of 3 inputs",
    quantizers.ChangingTheWeight: "changes the weight",
    quantizers.Float64: "dequantise gives .*float64",
    quantizers.Leaking: "of a NaN: .* differ from the definition",
}


def test_a_right_one_passes_and_there_is_nothing_to_tell() -> None:
    assert require_correct(Right()) == ()


@pytest.mark.parametrize(("fault", "found"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
def test_a_fault_is_caught_and_named(fault: type[Right], found: str) -> None:
    with pytest.raises(Incorrect, match=found):
        require_correct(fault())


@pytest.mark.parametrize("fault", [quantizers.ChangingModule, quantizers.Remembering])
def test_what_changes_between_forwards_or_ignores_its_buffers_is_caught(fault: type[Right]) -> None:
    with pytest.raises(Incorrect, match=r"after its first evaluation forward|state_dict round trip|off by"):
        require_correct(fault())


def test_a_nan_that_is_not_seen_is_told() -> None:
    assert require_correct(quantizers.SwallowingNan()) == (
        "swallows a NaN: its block comes out finite",
        "swallows an infinity: its block comes out finite",
    )


class Particular(Right):
    def quantize(self, weight: torch.Tensor) -> Packed:
        if weight.ndim != 2 or weight.dtype != torch.float32:
            raise NotApplicable("only matrices of float32")
        return super().quantize(weight)


def test_what_a_technique_does_not_take_is_told_and_not_held_against_it() -> None:
    (note,) = require_correct(Particular())
    assert note.startswith("does not take shape (64, 64), torch.bfloat16; shape (64, 64), torch.float16; ")
    assert note.endswith("shape (0, 64), torch.float16: only matrices of float32")


class Refusing(Right):
    def quantize(self, weight: torch.Tensor) -> Packed:
        raise NotApplicable("nothing will do")


def test_what_takes_no_plain_matrix_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="nothing will do"):
        require_correct(Refusing())


class Script(quantizers.WrongCode):
    script = (
        "def round_trip(weight):\n"
        "    table = torch.linspace(-1, 1, 16)\n"
        "    return (table[torch.bucketize(weight / weight.abs().max(), table)] * weight.abs().max())"
    )


def test_a_report_holds_code_that_shows_the_error_without_this_project() -> None:
    with pytest.raises(Incorrect) as caught:
        require_correct(Script())
    head, _, code = str(caught.value).partition("\n\n")
    assert re.search(r"NF4 of shape \(64, 64\), torch.float32: 1 of 4096 values differ .* the worst by [\d.]+ \(", head)
    assert "harness" not in code
    printed: list[object] = []
    exec(code, {"print": lambda *values: printed.append(values)})
    ((value, _, expected),) = printed  # type: ignore[misc]
    assert isinstance(value, float)
    assert isinstance(expected, float)


def test_a_technique_that_lacks_a_member_is_told_which() -> None:
    class Half:
        scheme = Right().scheme

    with pytest.raises(Incorrect, match="lacks computes_in, dequantize, linear, quantize, script, sized"):
        require_correct(Half())  # type: ignore[arg-type]
