"""Products with interleaved codes and in bfloat16, on each path of the kernel, and what is stored for them."""

# ruff: noqa: ARG001  the fixture ``path`` forces a path and is not looked at
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness_nf4 import kernel
from harness_nf4.native_technique import TOGETHER, Kernel
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.families.quantize.contract import Packed, QuantizedLinear

SEEDS = st.integers(0, 2**31)
PIECES = st.integers(1, 20).map(lambda pieces: 64 * pieces)
STEPS = 5792
"""The largest integer of fixed point: 64 products of two are less than 2^31."""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half_a_step(x: torch.Tensor, technique: Kernel, packed: Packed) -> torch.Tensor:
    """By how much fixed point may be off beside roundings in float32: half a step of each factor."""
    name = TOGETHER if TOGETHER in packed.tensors else "codes"
    ones = torch.full_like(packed.tensors[name], 0xFF)  # two codes of NF4's level 1
    scale = technique.dequantize(replace(packed, tensors={**packed.tensors, name: ones})).double()
    weight, x = technique.dequantize(packed).double(), x.double()
    of_x = x.unflatten(1, (-1, 64)).abs().amax(2).repeat_interleave(64, 1) * 0.502 / STEPS
    of_weight = scale * 0.5 / STEPS
    return (of_x @ (weight.abs() + of_weight).T + x.abs() @ of_weight.T) * (1 + 1e-4)


@settings(max_examples=25)
@given(
    seed=SEEDS,
    rows=st.integers(1, 150),
    columns=PIECES,
    inputs=st.integers(1, 19),
    block=st.sampled_from([64, 128, 256]),
    double=st.booleans(),
)
def test_products_are_off_by_half_a_step_of_13_bits(
    path, require_product, seed, rows, columns, inputs, block, double
) -> None:
    technique = Kernel(levels="nf4", block=block, double=double, precision="fixed", interleaved=True)
    packed, x = technique.quantize(normal(seed, rows, columns)), normal(seed + 1, inputs, columns)
    # of a term: its scales 6, itself 2, panels and the last block 8, the lanes of rows that are not interleaved 16
    require_product(
        technique.linear(x, packed),
        x,
        technique.dequantize(packed),
        roundings=32 + columns // 64,
        beside=half_a_step(x, technique, packed),
    )


@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(15, 64), (16, 64), (37, 192), (37, 96), (256,)])
def test_the_weight_that_is_read_back_is_that_of_codes_in_rows(path, shape, double, block) -> None:
    weight = normal(0, *shape)
    in_rows, interleaved = (Kernel(levels="nf4", block=block, double=double, interleaved=on) for on in (False, True))
    packed = interleaved.quantize(weight)
    assert torch.equal(interleaved.dequantize(packed), in_rows.dequantize(in_rows.quantize(weight)))
    whole = shape in {(16, 64), (37, 192)} and path.startswith("avx512")
    assert (TOGETHER in packed.tensors) == whole


@pytest.mark.parametrize("slower", ["portable", "avx2"])
@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("double", [False, True])
def test_a_processor_without_avx512_multiplies_interleaved_codes_that_another_wrote(
    force_path, slower, block, double
) -> None:
    weight, x = normal(0, 37, 192), normal(1, 3, 192).bfloat16()
    in_rows, interleaved = (Kernel(levels="nf4", block=block, double=double, interleaved=on) for on in (False, True))
    with force_path("avx512 emulated"):
        written = interleaved.quantize(weight)
    assert TOGETHER in written.tensors
    with force_path(slower):
        assert torch.equal(interleaved.linear(x, written), in_rows.linear(x, in_rows.quantize(weight)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e-35])
@pytest.mark.parametrize("further", [0, 3])
def test_activations_that_do_not_fit_are_multiplied_as_with_codes_in_rows(path, value, further) -> None:
    weight, x = normal(0, 64 + further, 128), normal(1, 3, 128)
    x[1, :64] = value
    for precision in ("fixed", "exact"):
        found, expected = (
            technique.linear(x, technique.quantize(weight))
            for technique in (
                Kernel(levels="nf4", precision=precision, interleaved=interleaved) for interleaved in (True, False)
            )
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_many_inputs_are_multiplied_in_bfloat16_where_its_dot_products_are_not_the_slower_ones(path) -> None:
    technique = Kernel(levels="nf4", interleaved=True)
    matrix, x = technique._matrix(technique.quantize(normal(0, 48, 128))), normal(1, kernel.MANY + 1, 128).bfloat16()
    halves, fixed = matrix.multiply_halves(x), matrix.multiply_interleaved(x)
    if halves is None:
        assert not path.startswith(("avx512-bf16", "avx512-amx"))
        return
    assert not torch.equal(halves, fixed)
    integers = path == "avx512-bf16" and kernel._library().harness_prefers_integers()
    assert torch.equal(matrix.product(x, "auto"), fixed if integers else halves)


def test_threads_change_no_bit(path) -> None:
    technique = Kernel(levels="nf4", interleaved=True)
    packed, x = technique.quantize(normal(0, 1203, 512)), normal(1, kernel.MANY + 2, 512).bfloat16()
    numbers = (1, 5, 18, len(x))  # the last in bfloat16, where that is the faster product
    alone = [technique.linear(x[:n], packed) for n in numbers]
    torch.set_num_threads(3)
    try:
        together = [technique.linear(x[:n], packed) for n in numbers]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_largest_weights_and_activations_do_not_overflow(path) -> None:
    technique = Kernel(levels="nf4", precision="fixed", interleaved=True)
    packed = technique.quantize(torch.ones(32, 1024))
    for inputs in (1, 8):
        found = technique.linear(torch.full((inputs, 1024), -1e5), packed)
        torch.testing.assert_close(found, torch.full((inputs, 32), -1024e5), rtol=1e-5, atol=0)


def test_a_layer_loads_no_codes_of_the_other_order(force_path) -> None:
    layers = []
    with force_path("avx512 emulated"):
        for interleaved in (True, False):
            technique = Kernel(levels="nf4", interleaved=interleaved)
            layers.append(QuantizedLinear(technique, technique.quantize(normal(0, 32, 64))))
    for layer, other in (layers, reversed(layers)):
        with pytest.raises(RuntimeError, match="codes"):
            layer.load_state_dict(other.state_dict())


def test_gradients_reach_the_activations(path, require_product) -> None:
    technique = Kernel(levels="nf4", interleaved=True)
    packed = technique.quantize(normal(0, 48, 128))
    x, gradient = normal(1, 5, 128).bfloat16().requires_grad_(), normal(2, 5, 48).bfloat16()
    technique.linear(x, packed).backward(gradient)
    weight = technique.dequantize(packed).bfloat16()
    rounding = 2.0**-8 * 1.01 * (gradient.double() @ weight.double()).abs()
    require_product(x.grad, gradient, weight.T, beside=rounding)


@settings(max_examples=40)
@given(seed=SEEDS, rows=st.integers(1, 70), columns=PIECES, inputs=st.integers(1, 11), exact=st.booleans())
def test_products_of_bfloat16_are_those_in_float32_rounded_to_the_nearest(
    path, seed, rows, columns, inputs, exact
) -> None:
    technique = Kernel(levels="nf4")
    matrix, x = technique._matrix(technique.quantize(normal(seed, rows, columns))), normal(seed + 1, inputs, columns)
    found = matrix.multiply(x.bfloat16(), exact=exact)
    assert torch.equal(found, matrix.multiply(x.bfloat16().float(), exact=exact).bfloat16())
