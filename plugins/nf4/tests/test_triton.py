"""The Triton kernels against float64, on a GPU or in Triton's interpreter: ``make triton``.

Triton decides at its import whether it interprets, so this module runs only where TRITON_INTERPRET=1 was set before.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import Unavailable

pytest.importorskip("triton", reason="triton is not installed: pip install 'harness-nf4[triton]'")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("there is no CUDA device; TRITON_INTERPRET=1 interprets (make triton)", allow_module_level=True)

from harness_nf4 import triton_kernels  # noqa: E402
from harness_nf4.reference import Eager  # noqa: E402
from harness_nf4.triton_technique import Triton  # noqa: E402

pytestmark = [] if INTERPRETED else [pytest.mark.gpu]
DEVICE = "cpu" if INTERPRETED else "cuda"
EXAMPLES = settings(max_examples=12 if INTERPRETED else 200, deadline=None)
SIZES = st.integers(1, 150) | st.sampled_from([63, 64, 65, 127, 128, 129, 511, 512, 513])
"""Every residue of the tiles of 16 and 64, of the strips of 4 rows and 512 columns, and of the blocks."""


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def require_product(found, x, weight, *, rounded=0.0) -> None:
    """A sum of n products is off by n u / (1 - n u) times the sum of sizes; weights and the result may be rounded.

    ``rounded`` is by how much, relative to each.
    """
    x, weight = x.double(), weight.double()
    k = 2.0**-24 * (x.shape[1] + 2)
    sizes = x.abs() @ weight.abs().T
    allowed = (k / (1 - k) + rounded) * sizes * (1 + rounded)
    off = (found.double() - x @ weight.T).abs()
    assert (off <= allowed).all(), f"{(off / allowed).nan_to_num(0).max():.3g} of what rounding explains"


@EXAMPLES
@given(st.integers(1, 20), SIZES, SIZES, st.sampled_from([2, 6, 32, 64, 128]), st.booleans(), st.integers(0, 9))
def test_products_of_float32_are_those_of_float64(count, rows, columns, block, double, seed) -> None:
    technique, plain = (kind(levels="nf4", block=block, double=double) for kind in (Triton, Eager))
    packed = technique.quantize(normal(seed, rows, columns))
    weight = plain.dequantize(packed)
    assert torch.equal(technique.dequantize(packed), weight)
    for x in (normal(seed + 1, count, columns), normal(seed + 2, 1, columns)):
        require_product(technique.linear(x, packed), x, weight)


@EXAMPLES
@given(st.sampled_from([1, 2, 17, 33]), SIZES, SIZES, st.sampled_from([torch.bfloat16, torch.float16]))
def test_products_of_half_precision_are_those_of_rounded_weights(count, rows, columns, dtype) -> None:
    technique = Triton(levels="fp4")
    packed = technique.quantize(normal(0, rows, columns))
    x = normal(1, count, columns, dtype=dtype)
    found = technique.linear(x, packed)
    assert found.dtype == dtype
    # a weight is rounded to the inputs' dtype, and so is the result; the interpreter truncates where it should round
    require_product(found.float(), x, technique.dequantize(packed), rounded=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("columns", [7, 64, 515])
def test_an_input_beside_the_matrix_is_not_read(columns) -> None:
    technique = Triton(levels="nf4")
    packed = technique.quantize(normal(0, 9, columns))
    for count in (1, 3):
        around = torch.full((count + 2, columns), torch.nan, device=DEVICE)
        around[1:-1] = normal(1, count, columns)
        assert technique.linear(around[1:-1], packed).isfinite().all()


@pytest.mark.parametrize("count", [1, 5])
def test_a_scale_that_is_not_finite_reaches_only_the_outputs_of_its_block(count) -> None:
    technique = Triton(levels="nf4", block=64)
    packed = technique.quantize(normal(0, 8, 64))
    packed.tensors["absmax"][3] = torch.inf
    found = technique.linear(normal(1, count, 64), packed)
    assert not found[:, 3].isfinite().any()
    assert torch.cat([found[:, :3], found[:, 4:]], 1).isfinite().all()


def test_gradients_reach_the_inputs() -> None:
    technique = Triton(levels="nf4")
    packed = technique.quantize(normal(0, 5, 66))
    x = normal(1, 1, 66).requires_grad_()
    technique.linear(x, packed).sum().backward()
    assert torch.allclose(x.grad, technique.dequantize(packed).sum(0, keepdim=True))


@pytest.mark.skipif(not INTERPRETED, reason="compiled for a GPU")
def test_a_processor_is_refused_where_kernels_are_compiled(monkeypatch) -> None:
    monkeypatch.setattr(triton_kernels, "runs_compiled", lambda: True)
    with pytest.raises(Unavailable, match="harness run --device cuda"):
        Triton(levels="nf4").quantize(torch.ones(2, 4))
