"""The Triton kernels as machine code: compiled for cards that need not be there, which the interpreter cannot show."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton", reason="triton is not installed: pip install 'harness-nf4[triton]'")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1: nothing is compiled", allow_module_level=True)

from harness_nf4 import triton_kernels as kernels

SMALL = 99 * 1024  # bytes that a program can have on compute capabilities 8.6 and 8.9, the least since 8.0
pytestmark = pytest.mark.slow
MATRIX = {"codes": "*u8", "absmax": "*fp32", "levels": "*fp32", "rows": "i32", "columns": "i32", "block": "i32"}


@pytest.mark.parametrize("capability", [89, 90])
def test_kernels_compile_and_fit_into_the_shared_memory_of_a_small_card(capability, shared_memory) -> None:
    def needs(kernel, types, **constants) -> int:
        return shared_memory(kernel, MATRIX | types, constants, capability)

    found = {"dequantize": needs(kernels._dequantize, {"out": "*fp32", "count": "i32"}, PIECE=kernels.PIECE)}
    for dtype, size in (("bf16", 2), ("fp32", 4)):
        types = {"x": f"*{dtype}", "out": f"*{dtype}", "inputs": "i32"}
        one = {name: kind for name, kind in types.items() if name != "inputs"}
        for even in (True, False):
            found[f"one {dtype} {even}"] = needs(kernels._multiply_one, one, EVEN=even, **kernels.STRIP)
        for count in (kernels.LEAST, kernels.MOST[size]):
            tile = {"INPUTS": count, **kernels.TILE, "WIDE": False}
            found[f"{count} {dtype}"] = needs(kernels._multiply, types, **tile)
    assert {name: size for name, size in found.items() if size > SMALL} == {}
