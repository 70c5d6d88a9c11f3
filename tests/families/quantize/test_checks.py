"""The correctness gate lets a right quantiser through and catches every kind of wrong one, with what shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch

from harness.api import Incorrect, NotApplicable
from harness.families.quantize.checks import require_correct
from harness.families.quantize.contract import Packed
from tests.families.quantize import quantizers
from tests.families.quantize.quantizers import Right

OFF = r"off by (?P<error>[\d.e+-]+) of the exact \w+, where (?P<allowed>[\d.e+-]+) is allowed"
VALUE = r"(?P<found>\S+) where the definition has (?P<expected>\S+)"
FAULTS = {
    quantizers.WrongCode: (
        r"NF4 of shape \(64, 64\), torch.float32: 1 of 4096 values differ .* worst by [\d.]+ \(",
        VALUE,
    ),
    quantizers.WrongTail: (r"shape \(6, 200\).*differ from the definition", VALUE),
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
        r"off by 0\.[1-9]\d* where NF4 is off by 0\.0",
    ),
    quantizers.ManyLearned: (r"a block has \d+ different values; 4 bits", r"\d\d different values in a block, .* 16$"),
    quantizers.WrongInModules: ("a module with a bias, inputs of torch.float32: off by 1.0.e-01", OFF),
    quantizers.ChangingModule: ("after its first evaluation forward", r"off by [\d.e+-]+ when it is asked again"),
    quantizers.Remembering: ("after a state_dict round trip", r"off by [\d.]+ in a module that loaded"),
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
    assert note.endswith("shape (0, 64), torch.float16: only matrices of float32")


class Refusing(Right):
    def quantize(self, weight: torch.Tensor) -> Packed:
        raise NotApplicable("nothing will do")


def test_what_takes_no_plain_matrix_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="nothing will do"):
        require_correct(Refusing())
