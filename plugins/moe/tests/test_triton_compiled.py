"""The kernels of grouped experts as machine code: compiled for cards that need not be there."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton", reason="triton is not installed: pip install 'harness-moe[triton]'")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1: nothing is compiled", allow_module_level=True)

from harness_moe import grouped

pytestmark = pytest.mark.slow
SMALL = 99 * 1024  # bytes that a program can have on compute capabilities 8.6 and 8.9, the least since 8.0
NUMBERS = dict.fromkeys(["experts", "inputs", "outputs", "by_input", "by_output"], "i32")


@pytest.mark.parametrize("capability", [89, 90])
def test_kernels_compile_and_fit_into_the_shared_memory_of_a_small_card(capability, shared_memory) -> None:
    found = {}
    for dtype in ("fp32", "bf16"):
        tensors = dict.fromkeys(["x", "weight", "bias", "hidden", "out", "gradient"], f"*{dtype}") | {"ends": "*i64"}
        for relu, mask in ((True, False), (False, True)):
            flags = {"BIAS": relu, "RELU": relu, "MASK": mask, "EXPERTS": 8}
            found[f"product {dtype} {relu}"] = shared_memory(
                grouped._multiply, tensors | NUMBERS, flags | grouped.TILE, capability
            )
        found[f"gradients {dtype}"] = shared_memory(grouped._gradients, tensors | NUMBERS, grouped.TILE, capability)
    assert {name: size for name, size in found.items() if size > SMALL} == {}
