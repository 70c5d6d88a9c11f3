"""Our codes, scales and products against those of bitsandbytes, an implementation of others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness_nf4.native_technique import Kernel
from harness_nf4.reference import Blocks

functional = pytest.importorskip("bitsandbytes.functional")


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
