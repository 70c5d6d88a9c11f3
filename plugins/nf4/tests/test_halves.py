"""Products in bfloat16, of levels or of weights, by dot products and in tiles, on each path of the kernel."""

# ruff: noqa: ARG001  the fixture ``path_of_halves`` forces a path and is not always looked at
from __future__ import annotations

import math

import pytest
import torch
from harness_nf4.native_technique import Kernel
from hypothesis import given, settings
from hypothesis import strategies as st

HALVES = ("avx512-bf16", "avx512-amx")
"""The paths that have such products."""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half_a_level(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return by how much products in bfloat16 may be off beside their roundings in float32: of a level, 2^-8 of it."""
    return 2.0**-8 * (x.double().abs() @ weight.double().abs().T)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 70),
    columns=st.integers(1, 40).map(lambda pieces: 64 * pieces),
    inputs=st.integers(1, 44),
    levels=st.sampled_from(["nf4", "fp4"]),
    block=st.sampled_from([64, 128, 256]),
    double=st.booleans(),
)
def test_products_in_bfloat16_are_off_by_half_a_level_and_one_rounding(
    path_of_halves, require_product, seed, rows, columns, inputs, levels, block, double
) -> None:
    technique = Kernel(levels=levels, block=block, double=double)
    packed, x = technique.quantize(normal(seed, rows, columns)), normal(seed + 1, inputs, columns).bfloat16()
    found = technique._matrix(packed).multiply_halves(x)
    assert (found is not None) == (path_of_halves in HALVES)
    if found is None:
        return
    weight = technique.dequantize(packed)
    beside = half_a_level(x, weight)
    rounding = 2.0**-8 * (1 + 1e-2) * (x.double() @ weight.double().T).abs()  # as eps / 2 of bfloat16
    # of a term: its product with others, of 64 columns with up to 16 inputs, of all with more or in tiles; its scale
    # and the weight's own rounding, 4; the pieces
    together = 64 if inputs <= 16 and path_of_halves == "avx512-bf16" else columns
    require_product(found, x, weight, roundings=together + 5 + columns // 64, beside=1.01 * beside + rounding)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("rows", "columns", "inputs"), [(37, 192, 17), (65, 576, 24), (16, 64, 3)])
def test_products_of_many_inputs_in_bfloat16_are_off_by_half_a_step_of_each_weight(
    path_of_halves, require_product, rows, columns, inputs, interleaved, double
) -> None:
    technique = Kernel(levels="nf4", interleaved=interleaved, double=double)
    packed, x = technique.quantize(normal(0, rows, columns)), normal(1, inputs, columns).bfloat16()
    found = technique._matrix(packed).multiply_halves(x)
    assert (found is not None) == (path_of_halves in HALVES)
    if found is None:
        return
    weight = technique.dequantize(packed)
    rounding = 2.0**-8 * (1 + 1e-2) * (x.double() @ weight.double().T).abs()
    require_product(found, x, weight, roundings=columns + 5, beside=1.01 * half_a_level(x, weight) + rounding)


@pytest.mark.parametrize("interleaved", [False, True])
def test_inputs_beyond_those_whose_sums_are_kept_are_multiplied_like_the_first(path_of_halves, interleaved) -> None:
    technique = Kernel(levels="nf4", interleaved=interleaved)
    matrix, x = technique._matrix(technique.quantize(normal(0, 150, 1088))), normal(1, 270, 1088).bfloat16()
    found = matrix.multiply_halves(x)  # 256 inputs at a time, and so many columns that a row has several strips
    if found is None:
        assert path_of_halves not in HALVES
        return
    for some in (slice(0, 28), slice(190, 270)):  # a sum does not depend on the inputs beside it
        torch.testing.assert_close(found[some], matrix.multiply_halves(x[some]), rtol=0, atol=0)


@pytest.mark.parametrize("interleaved", [False, True])
def test_inputs_left_over_from_vectors_of_16_have_the_products_of_few(path_of_halves, interleaved) -> None:
    technique = Kernel(levels="nf4", interleaved=interleaved)
    matrix, x = technique._matrix(technique.quantize(normal(0, 150, 1088))), normal(1, 40, 1088).bfloat16()
    vectors, few = matrix.multiply_halves(x[:32]), x[32:]
    if vectors is None:
        assert path_of_halves not in HALVES
        return
    if path_of_halves == "avx512-bf16":
        expected = matrix.multiply_interleaved(few) if interleaved else matrix.multiply_halves(few)
    else:  # in tiles zeros beside them cost little
        expected = matrix.multiply_halves(few)
    assert torch.equal(matrix.multiply_halves(x), torch.cat([vectors, expected]))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e-35])
def test_an_input_left_over_that_fixed_point_cannot_hold_changes_no_other(path_of_halves, interleaved, value) -> None:
    technique = Kernel(levels="nf4", interleaved=interleaved)
    packed, x = technique.quantize(normal(0, 40, 128)), normal(1, 19, 128).bfloat16()
    x[17, :64] = value
    found = technique._matrix(packed).multiply_halves(x)
    if found is None:
        assert path_of_halves not in HALVES
        return
    weight = technique.dequantize(packed)
    expected = x.double() @ weight.double().T
    sound = [other for other in range(19) if other != 17]
    beside = half_a_level(x, weight) + 2.0**-8 * expected.abs()
    assert ((found.double() - expected)[sound].abs() <= 1.02 * beside[sound]).all()
    assert found[17].isfinite().all() == math.isfinite(value)


@pytest.mark.parametrize("scale", [1e-35, 2e38, math.inf, math.nan])
def test_a_scale_that_a_weight_in_bfloat16_would_lose_is_multiplied_in_another_form(path_of_halves, scale) -> None:
    technique = Kernel(levels="nf4")
    packed, x = technique.quantize(normal(0, 40, 128)), normal(1, 17, 128).bfloat16()
    packed.tensors["absmax"][5] = scale
    matrix = technique._matrix(packed)
    assert matrix.multiply_halves(x) is None
    found, expected = technique.linear(x, packed), matrix.multiply(x.float(), exact=False).bfloat16()
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_product_in_bfloat16_keeps_what_is_not_finite_in_its_own_output(path_of_halves) -> None:
    technique = Kernel(levels="nf4")
    matrix, x = technique._matrix(technique.quantize(normal(0, 40, 128))), normal(1, 9, 128).bfloat16()
    expected = matrix.multiply_halves(x)
    if expected is None:
        assert path_of_halves not in HALVES
        return
    for value in (math.nan, math.inf):
        poisoned = x.clone()
        poisoned[3, 70] = value
        found = matrix.multiply_halves(poisoned)
        sound = [0, 1, 2, 4, 5, 6, 7, 8]
        assert torch.equal(found[sound], expected[sound])
        assert not found[3].isfinite().any()


def test_a_product_leaves_torch_s_own_products_as_they_were(path_of_halves) -> None:
    technique = Kernel(levels="nf4")
    packed, x = technique.quantize(normal(0, 80, 320)), normal(1, 20, 320).bfloat16()
    for shape in ((20, 320, 48), (3, 64, 7)):  # both may use the tile registers, each with shapes of its own
        left, right = normal(2, *shape[:2]).bfloat16(), normal(3, *shape[1:]).bfloat16()
        before = left @ right
        found = technique.linear(x, packed)
        assert torch.equal(left @ right, before)
        assert torch.equal(technique.linear(x, packed), found)
