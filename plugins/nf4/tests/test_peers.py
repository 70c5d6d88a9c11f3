"""Our codes, scales and products against those of bitsandbytes, an implementation of others."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from harness_nf4.native_technique import Kernel
from harness_nf4.reference import Blocks

from harness.api import Incorrect
from harness.families.quantize.checks import require_correct

functional = pytest.importorskip("bitsandbytes.functional")

PAGE = Path(__file__).parents[3] / "docs/peers.md"

needs_bf16 = pytest.mark.skipif(
    not functional.has_avx512bf16(), reason="without AVX512-BF16 the library's layer is one in training and evaluation"
)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("technique", [Kernel, Blocks])
@pytest.mark.parametrize("levels", ["nf4", "fp4"])
@pytest.mark.parametrize("block", [64, 128])
def test_packed_codes_and_scales_mean_what_bitsandbytes_mean(technique, levels, block) -> None:
    weight = normal(0, 96, 256)
    codes, state = functional.quantize_4bit(weight, blocksize=block, quant_type=levels)
    mine = technique(levels=levels, block=block)
    ours = mine.quantize(weight)
    assert torch.equal(ours.tensors["absmax"], state.absmax)
    # FP4 has two codes for 0; and the library, which multiplies by a reciprocal, may take another level of two as near
    theirs = replace(ours, tensors={"codes": codes.reshape(-1), "absmax": state.absmax})
    assert (mine.dequantize(ours) != mine.dequantize(theirs)).sum() <= 2
    if levels == "nf4":
        assert (ours.tensors["codes"] != codes.reshape(-1)).sum() <= 2
    torch.testing.assert_close(mine.dequantize(theirs), functional.dequantize_4bit(codes, state), rtol=2.0**-22, atol=0)


def test_a_weight_that_bitsandbytes_packed_can_be_multiplied_with(require_product) -> None:
    weight, x = normal(0, 96, 256), normal(1, 3, 256)
    codes, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    technique = Kernel(levels="nf4")
    packed = technique.quantize(weight)
    theirs = replace(packed, tensors={"codes": codes.reshape(-1), "absmax": state.absmax})
    # 256 columns, and a rounding of each weight on either side
    weight = functional.dequantize_4bit(codes, state)
    require_product(technique.linear(x, theirs), x, weight, roundings=256 + 2)


@needs_bf16
@pytest.mark.parametrize("levels", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("block", [64, 128])
def test_the_form_of_evaluation_is_what_the_library_s_layer_computes(levels, double, block) -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit
    from harness_nf4.bits_and_bytes import Evaluated

    weight = normal(0, 96, 256).bfloat16()
    layer = Linear4bit(256, 96, bias=False, compute_dtype=torch.bfloat16)
    layer.weight = Params4bit(
        weight, requires_grad=False, blocksize=block, compress_statistics=double, quant_type=levels
    )
    layer = layer.to("cpu").eval()
    technique = Evaluated(levels=levels, block=block, double=double)
    packed = technique.quantize(weight)
    for inputs in (1, 3, 40):
        x = normal(1, inputs, 256).bfloat16()
        assert torch.equal(technique.linear(x, packed), layer(x))


@needs_bf16
def test_the_form_of_evaluation_is_correct_only_where_views_are_copied() -> None:
    from harness_nf4.bits_and_bytes import Evaluated

    assert "gives its inputs no gradient" in require_correct(Evaluated(levels="nf4"))
    with pytest.raises(Incorrect, match="linear of 8 inputs") as caught:
        require_correct(Evaluated(levels="nf4", contiguous=False))
    script = str(caught.value).partition("# shows it without this project")[2]
    said = StringIO()
    with redirect_stdout(said):
        exec(compile(script, "<report>", "exec"), {})
    assert said.getvalue().startswith("off by 1.")


@needs_bf16
@pytest.mark.filterwarnings("ignore:bitsandbytes")
def test_what_the_page_says_of_the_library_s_layer_is_so() -> None:
    told = PAGE.read_text(encoding="utf-8").partition("\n## What is wrong with `Linear4bit`")[2]
    first, *scripts = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        said = StringIO()
        with redirect_stdout(said):
            exec(compile(first + script, str(PAGE), "exec"), {})
        promised = re.findall(r"print\(.*\)  # ([\w.]+(?:\([^)]*\))?)", script)
        assert said.getvalue().splitlines() == promised
