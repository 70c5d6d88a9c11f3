"""The correctness gate lets a right quantiser through and catches every kind of wrong one, with what shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from harness.api import Incorrect, NotApplicable
from harness.families.quantize import schemes
from harness.families.quantize.checks import Timed, require_correct
from harness.families.quantize.contract import Packed
from harness.families.quantize.drawn import drawn
from tests.families.quantize import layered, quantizers
from tests.families.quantize.quantizers import Right

OFF = r"off by (?P<error>[\d.e+-]+) of the exact \w+, where (?P<allowed>[\d.e+-]+) is allowed"
VALUE = r"(?P<found>\S+) where the definition has (?P<expected>\S+)"
FAULTS = {
    quantizers.WrongCode: (
        r"NF4 of shape \(64, 64\), torch.float32: 1 of 4096 values differ .* worst by [\d.]+ \(",
        VALUE,
    ),
    quantizers.WrongTail: (r"shape \(6, 200\).*differ from the definition", VALUE),
    quantizers.WrongOfWholeVectors: (
        r"NF4 of shape \(\d, \d+\), torch\.\w+ \(drawn with seed 0\): .* differ from the definition",
        VALUE,
    ),
    quantizers.WrongOfOneLength: (r"linear of .* shape \(1, \d+\), torch\.\w+ \(drawn with seed 0\): off by 1.0", OFF),
    quantizers.WrongOfOneNumberOfRows: (r"shape \(19, \d+\), torch\.\w+ \(drawn with seed 0\): off by 4", OFF),
    quantizers.WrongOfOneNumberOfInputs: (r"linear of 13 inputs .* \(drawn with seed 0\): off by [12]\.", OFF),
    quantizers.ReadingPastStrides: (r"linear of 8 inputs of torch.float32 \(columns of a wider matrix\)", OFF),
    quantizers.NeedingAlignedInputs: (r"linear of 1 inputs of torch.float32 \(at an odd address\) .* off by", OFF),
    quantizers.NeedingAlignedCodes: (
        r"dequantise gives other values where the packed tensors begin at another address, shape \(256, 64\)",
        r"off by 0\.[1-9]\d* where the packed tensors",
    ),
    quantizers.NeedingAlignedWeights: (r"\(drawn with seed 0\): .* differ from the definition", VALUE),
    quantizers.ChangingInputs: (
        "linear changes its input, 8 inputs of torch.float32",
        "512 of 512 numbers of the input were changed",
    ),
    quantizers.BadlyLearnedInThreeBits: (
        r"RMS error 0\.\d+, where 8 normal quantiles make 0\.\d+",
        r"off by 0\.[1-9]\d* where 8 normal quantiles make 0\.[1-9]",
    ),
    quantizers.WrongOnZeros: ("of zeros: .* differ from the definition", VALUE),
    quantizers.WrongForOtherBlocks: (r"shape \(256, 256\), torch.float32: .* differ from the definition", VALUE),
    quantizers.Leaking: ("of a NaN: .* differ from the definition", VALUE),
    quantizers.WrongProduct: ("linear of 1 inputs of torch.float32 .* off by 9.8.e-05", OFF),
    quantizers.WrongProductOfOtherBlocks: (r"shape \(256, 256\), torch.float32: off by 1.00e-02", OFF),
    quantizers.WrongProductOfHalves: (r"linear .* a weight of shape \(256, 64\), torch.bfloat16: off by 1.0", OFF),
    quantizers.WrongBatch: ("linear of 64 inputs .* off by", OFF),
    quantizers.LeakingProduct: ("the two sound ones of 3 inputs", "off by nan of the exact product"),
    quantizers.SwallowingProduct: ("swallows the NaN of one of 3 inputs", "64 of 64 outputs of the input with a NaN"),
    quantizers.WideProduct: (r"linear gives shape \(1, 64\), torch.float32 for", "torch.float32 for .* torch.bfloat16"),
    quantizers.ChangingTheWeight: ("changes the weight", "4096 of 4096 weights were changed by quantising"),
    quantizers.Float64: ("dequantise gives .*float64", r"torch.float64 for \(64, 64\) torch.float32"),
    quantizers.BadlyLearned: (
        r"RMS error 0\.\d+, where NF4 makes 0\.\d+",
        r"off by 0\.[1-9]\d* where NF4 makes 0\.0",
    ),
    quantizers.ManyLearned: (r"a block has \d+ different values; 4 bits", r"\d\d different values in a block, .* 16$"),
    quantizers.WrongInModules: ("a module with a bias, inputs of torch.float32: off by 1.0.e-01", OFF),
    layered.ChangingModule: ("after its first evaluation forward", r"off by [\d.e+-]+ when it is asked again"),
    layered.Repacking: (
        "a module's state_dict has another weight_absmax after its first evaluation forward",
        "^weight_absmax of the state_dict has other bits than before the first evaluation$",
    ),
    layered.WrongGradient: (r"gradient of inputs of torch.float32: off by 1\.0", OFF),
    layered.WrongGradientOnceEvaluated: ("gradient of inputs of torch.float32.*: off by 1", OFF),
    layered.WithoutGradientOnceEvaluated: (
        "no gradient reaches inputs of torch.float32 after an evaluation",
        r"^the gradient has a norm of \d+\.\d+\nafter an evaluation it is None$",
    ),
    layered.Remembering: ("after a state_dict round trip", r"off by [\d.]+ in a module that loaded"),
}
"""Of each fault: what the report says, and what the code in it prints."""

ALONE = """
import contextlib, io, json, sys
sys.modules['harness'] = None  # any import of it fails
codes, printed = json.load(sys.stdin), {}
for name, code in codes.items():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    printed[name] = out.getvalue().strip()
print(json.dumps(printed))
"""


def report_of(fault: type[Right]) -> tuple[str, str]:
    """What is said of it, and the code that shows it."""
    with pytest.raises(Incorrect) as caught:
        require_correct(fault())
    text, _, code = str(caught.value).partition("\n\n")
    return text, code


@pytest.fixture(scope="module")
def reports() -> dict[str, tuple[str, str]]:
    return {fault.__name__: report_of(fault) for fault in FAULTS}


@pytest.fixture(scope="module")
def printed(reports: dict[str, tuple[str, str]]) -> dict[str, str]:
    """What the reports' code prints in a process that cannot import this project."""
    codes = json.dumps({name: code for name, (_, code) in reports.items()})
    done = subprocess.run([sys.executable, "-c", ALONE], input=codes, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_a_right_one_passes_and_there_is_nothing_to_tell() -> None:
    assert require_correct(Right()) == ()
    assert require_correct(quantizers.Learned()) == ()
    assert require_correct(quantizers.LearnedInThreeBits()) == ()


@pytest.mark.parametrize("seed", range(1, 4))
def test_whatever_the_seed_a_right_one_passes_and_rows_of_whole_vectors_do_not_escape(seed: int) -> None:
    assert require_correct(Right(), seed=seed) == ()
    with pytest.raises(Incorrect, match=rf"drawn with seed {seed}\): .* differ from the definition"):
        require_correct(quantizers.WrongOfWholeVectors(), seed=seed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_caught_and_named(fault: type[Right], reports: dict[str, tuple[str, str]]) -> None:
    assert re.search(FAULTS[fault][0], reports[fault.__name__][0])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_its_report_holds_code_that_shows_the_error_without_this_project(
    fault: type[Right], reports: dict[str, tuple[str, str]], printed: dict[str, str]
) -> None:
    text, code = reports[fault.__name__]
    assert "harness" not in code
    found = re.search(FAULTS[fault][1], printed[fault.__name__])
    assert found, printed[fault.__name__]
    if FAULTS[fault][1] == OFF:  # the same error, to the digits of the report
        told = re.search(r"off by ([\d.e+-]+)", text)
        assert told
        assert float(found["error"]) == pytest.approx(float(told[1]), rel=6e-3)
        assert float(found["error"]) > float(found["allowed"])
    if FAULTS[fault][1] == VALUE:
        assert found["found"] != found["expected"]


def test_what_has_no_script_is_reported_without_code() -> None:
    technique = quantizers.WrongCode()
    technique.script = ""
    with pytest.raises(Incorrect) as caught:
        require_correct(technique)
    assert "\n" not in str(caught.value)


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
    assert note.endswith("shape (0, 64), torch.float16; shapes drawn for every seed: only matrices of float32")


class Refusing(Right):
    def quantize(self, weight: torch.Tensor) -> Packed:
        raise NotApplicable("nothing will do")


def test_what_takes_no_plain_matrix_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="nothing will do"):
        require_correct(Refusing())


@pytest.mark.parametrize("block", [2, 32, 64, 128, 256, 1 << 30])
def test_every_remainder_of_rows_columns_and_inputs_is_drawn_for_every_seed(block: int) -> None:
    shapes = []
    for seed in range(3):
        weights = drawn(block, seed)
        assert {weight.columns % 64 for weight in weights} == set(range(64))
        assert {weight.columns % 16 for weight in weights if weight.columns < 64} != set()
        assert {weight.rows % 32 for weight in weights} == set(range(32))
        assert {weight.inputs % 16 for weight in weights} == set(range(16))
        whole = {weight.rows % 32 for weight in weights if weight.columns % block == 0}
        assert whole == set(range(32)) or block > 256
        assert [weight.columns for weight in weights] == sorted(weight.columns for weight in weights)
        shapes.append([(weight.rows, weight.columns) for weight in weights])
        assert drawn(block, seed) == weights
    assert shapes[0] != shapes[1] != shapes[2]


def test_the_drawn_weights_lie_in_memory_as_described() -> None:
    offsets = {weight.weight.made().storage_offset() for weight in drawn(64, 0)}
    assert offsets == {0, 1, 2, 3}
    for weight in drawn(64, 0):
        made, x = weight.weight.made(), weight.x.made()
        assert made.shape == (weight.rows, weight.columns)
        assert made.is_contiguous()
        assert made.dtype == weight.dtype
        assert x.shape == (weight.inputs, weight.columns)
        assert x.dtype == weight.inputs_dtype


def test_of_shapes_that_fail_the_shortest_row_and_the_fewest_rows_are_reported() -> None:
    with pytest.raises(Incorrect) as caught:
        require_correct(quantizers.WrongOfOneLength(), seed=5)
    shortest = min(weight.columns for weight in drawn(64, 5) if weight.columns % 64 == 63 and weight.columns > 64)
    assert f"shape (1, {shortest})" in str(caught.value)


def test_the_timed_shape_is_compared_in_full() -> None:
    timed = Timed(rows=16, columns=2000, packed_rows=8, inputs=(1, 8), dtype=torch.bfloat16)
    assert require_correct(quantizers.WrongOfLongRows()) == ()
    with pytest.raises(Incorrect, match=r"shape \(8, 2000\), torch.float32: 1 of 16000 values differ"):
        require_correct(quantizers.WrongOfLongRows(), timed=timed)
    assert require_correct(Right(), timed=timed) == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_output_of_a_large_timed_product_is_compared(dtype: torch.dtype) -> None:
    timed = Timed(rows=96, columns=2048, packed_rows=8, inputs=(1, 8), dtype=dtype)
    with pytest.raises(Incorrect, match=rf"linear of 8 inputs of {dtype} and a weight of shape \(96, 2048\).*: off by"):
        require_correct(quantizers.OneOutputShort(), timed=timed)
    assert require_correct(Right(), timed=timed) == ()


def test_every_row_of_a_large_timed_matrix_is_compared_with_the_others() -> None:
    timed = Timed(rows=520, columns=2048, packed_rows=8, inputs=(1,), dtype=torch.bfloat16)
    with pytest.raises(Incorrect, match=r"shape \(520, 2048\), .*: RMS error [01]\.\d* in row 300, where") as caught:
        require_correct(quantizers.WrongInLaterRows(), timed=timed)
    names: dict[str, Any] = {}
    exec(str(caught.value).partition("\n\n")[2], names)
    assert names["errors"][300] > 0.9
    assert require_correct(Right(), timed=timed) == ()


def test_a_layer_that_pickling_changes_is_found_and_one_that_refuses_is_told() -> None:
    with pytest.raises(Incorrect, match="another output after it was pickled"):
        require_correct(quantizers.LostInPickles())
    assert require_correct(quantizers.NotPickled()) == ("its layers cannot be pickled",)


def test_what_gives_no_gradient_at_all_is_told_with_the_inputs_that_get_none() -> None:
    technique = layered.WithoutGradient()
    assert require_correct(technique) == ("gives its inputs of torch.float32, torch.float16 no gradient",)
    technique.linear = lambda x, packed: Right.linear(technique, x.detach(), packed)  # type: ignore[method-assign]
    assert require_correct(technique) == ("gives its inputs no gradient",)


class OneBlock(Right):
    """Claims blocks of a billion."""

    def __init__(self, block: int = 10**9) -> None:
        super().__init__(64)
        self.scheme = schemes.nf4(block)

    def quantize(self, weight: torch.Tensor) -> Packed:
        sized = Right(min(self.scheme.block, max(1, weight.numel())))
        return sized.quantize(weight)

    def dequantize(self, packed: Packed) -> torch.Tensor:
        return Right(max(1, len(packed.tensors["codes"]))).dequantize(packed)

    def linear(self, x: torch.Tensor, packed: Packed) -> torch.Tensor:
        return x @ self.dequantize(packed).to(x.dtype).T

    def sized(self, block: int) -> None:
        return None


def test_a_block_that_is_longer_than_any_weight_is_cut_to_the_weight() -> None:
    assert require_correct(OneBlock()) == ()
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    long, whole = (schemes.define(schemes.nf4(block), weight) for block in (10**9, 4096))
    assert torch.equal(long.values, whole.values)
