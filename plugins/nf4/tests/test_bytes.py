"""Products with weights in 8 bits, each path of the kernel, against float64 and bounds of rounding."""

# ruff: noqa: ARG001  the fixture ``path`` forces a path and is not looked at
from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from harness_nf4 import byte_kernel, kernel
from harness_nf4.native_technique import Bytes
from harness_nf4.packs import Int8Pack

WORDS = {"portable": 8, "avx2": 8, "avx512": 16, "avx512-bf16": 16, "avx512-amx": 16}
UNIT = 2.0**-24


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def roundings(columns: int, words: int) -> int:
    """Return the most roundings of a term on its way into a product of few inputs.

    Its product with an input and its additions in a lane, fused or not; the lanes, added one after another at the
    worst; what is left of the row, each with a product and an addition; the product with the scale; and the rounding
    of the dequantised weight that the product is compared with.
    """
    lane, rest = divmod(columns, words)
    return (1 + lane) + (words - 1) + (1 + rest) + 1 + 1


@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5, byte_kernel.FEW + 1])
def test_products_are_those_of_the_dequantised_weight_but_for_rounding(path, require_product, inputs) -> None:
    """For every rest of a row beyond whole vectors and lines of the cache, and of rows beyond those taken together."""
    technique = Bytes()
    for columns in range(1, 131):
        rows = 1 + columns % 19  # up to four groups of four, which may lie far apart, and a rest
        packed, x = technique.quantize(normal(columns, rows, columns)), normal(columns + 1000, inputs, columns)
        counted = roundings(columns, WORDS[path]) if inputs <= byte_kernel.FEW else columns + 2
        require_product(technique.linear(x, packed), x, technique.dequantize(packed), roundings=counted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_inputs_of_16_bits_are_multiplied_in_float32_and_rounded_once(path, require_product, dtype) -> None:
    technique = Bytes()
    packed, x = technique.quantize(normal(0, 37, 576)), normal(1, 3, 576).to(dtype)
    weight = technique.dequantize(packed)
    once = torch.finfo(dtype).eps / 2 * (x.double() @ weight.double().T).abs() * (1 + 1e-4)
    found = technique.linear(x, packed)
    assert found.dtype == dtype
    require_product(found, x, weight, roundings=roundings(576, WORDS[path]) + 1, beside=once)


def test_integers_of_every_value_are_read_with_their_signs(path) -> None:
    codes = torch.arange(-128, 128, dtype=torch.int8).view(1, 256)
    x = torch.eye(256)
    found = torch.cat([byte_kernel.multiply(piece, codes, torch.ones(1)) for piece in x.split(4)])
    assert torch.equal(found[:, 0], torch.arange(-128.0, 128))


@pytest.mark.parametrize("inputs", [1, 3, byte_kernel.FEW + 1])
def test_a_nan_stays_in_its_own_input_or_row(path, inputs) -> None:
    technique, x = Bytes(), normal(1, inputs, 77)
    packed = technique.quantize(normal(0, 9, 77))
    clean = technique.linear(x, packed)
    x[0, 5] = math.nan
    found = technique.linear(x, packed)
    assert found[0].isnan().all()
    assert torch.equal(found[1:], clean[1:])
    broken = normal(0, 9, 77)
    broken[4, 2] = math.inf
    kept = [row for row in range(9) if row != 4]
    others = technique.linear(x, technique.quantize(broken))
    assert torch.equal(others[1:, kept], clean[1:, kept])


@pytest.mark.parametrize("inputs", [1, 4, 6])
def test_any_number_of_threads_gives_the_same_bits(inputs) -> None:
    technique, x = Bytes(), normal(1, inputs, 576)
    packed = technique.quantize(normal(0, 1003, 576))
    alone = technique.linear(x, packed)
    try:
        for count in (2, 3):
            torch.set_num_threads(count)
            assert torch.equal(technique.linear(x, packed), alone)
    finally:
        torch.set_num_threads(1)


def test_codes_and_scales_are_those_of_torch_s_peer_however_many_rows_are_rounded_at_a_time() -> None:
    weight = normal(0, 2100, 576)  # more than are rounded at a time
    found, expected = (technique.quantize(weight).tensors for technique in (Bytes(), Int8Pack()))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


def test_a_gradient_reaches_the_input(require_product) -> None:
    technique, x = Bytes(), normal(1, 3, 77).requires_grad_()
    packed = technique.quantize(normal(0, 9, 77))
    gradient = normal(2, 3, 9)
    technique.linear(x, packed).backward(gradient)
    assert x.grad is not None
    require_product(x.grad, gradient, technique.dequantize(packed).T)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda x, codes, scale: (x[:, :-1], codes, scale), r"the input has shape \(3, 76\)"),
        (lambda x, codes, scale: (x, codes.short(), scale), "codes has 693 numbers of torch.int16"),
        (lambda x, codes, scale: (x, codes.T.contiguous().T, scale), "codes has 693 numbers"),
        (lambda x, codes, scale: (x, codes, scale[:-1]), "scale has 8 numbers"),
        (lambda x, codes, scale: (x, codes, scale.double()), "scale has 9 numbers of torch.float64"),
    ],
)
def test_what_the_library_would_read_wrongly_is_refused(
    change: Callable[..., tuple[torch.Tensor, ...]], problem: str
) -> None:
    tensors = Bytes().quantize(normal(0, 9, 77)).tensors
    with pytest.raises(ValueError, match=problem):
        byte_kernel.multiply(*change(normal(1, 3, 77), tensors["codes"], tensors["scale"]))


def test_without_its_library_the_reference_multiplies(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "libkernel.so")
    technique, x = Bytes(), normal(1, 3, 77)
    packed = technique.quantize(normal(0, 9, 77))
    assert torch.equal(technique.linear(x, packed), x @ technique.dequantize(packed).T)
