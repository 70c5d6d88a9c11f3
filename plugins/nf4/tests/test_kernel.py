"""The C++ kernel, each of its paths, against the definition in float64 written out here and against bitsandbytes."""

# ruff: noqa: ARG001  the fixture ``path`` forces a path and is not looked at
from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from harness_nf4 import kernel, reference
from harness_nf4.native_technique import Kernel
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**31)
HALVES = ("avx512-bf16", "avx512-amx")
"""The paths that have products in bfloat16."""

HYPOTHESIS = settings(max_examples=40)


NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


def nf4_table() -> np.ndarray:
    """QLoRA, appendix E."""
    return np.array(NF4, dtype=np.float32)


FP4 = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3]).astype(np.float32) / np.float32(12)


def defined(weight: np.ndarray, levels: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and absmax, in float64: the nearest level, the lower of two as near."""
    order = [code for code in np.argsort(levels, kind="stable") if list(levels).index(levels[code]) == code]
    ordered = levels[order].astype(np.float64)
    bounds = (ordered[1:] + ordered[:-1]) / 2
    flat = weight.astype(np.float32).ravel()
    absmax, codes = [], []
    for begin in range(0, len(flat), block):
        piece = flat[begin : begin + block]
        largest = np.abs(piece).max()
        usable = np.isfinite(largest) and largest > 0
        n = piece.astype(np.float64) / np.float64(largest) if usable else np.zeros(len(piece))
        codes += [order[i] for i in (n[:, None] > bounds[None, :]).sum(1)]
        absmax.append(largest)
    return np.array(codes, dtype=np.uint8), np.array(absmax, dtype=np.float32)


def unpacked(packed: torch.Tensor, count: int) -> np.ndarray:
    return np.stack([packed.numpy() >> 4, packed.numpy() & 15], 1).ravel()[:count]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def awkward(seed: int, count: int, block: int) -> torch.Tensor:
    """Weights of which many lie at, or one float beside, the middle of two levels."""
    draw = np.random.default_rng(seed)
    table = nf4_table().astype(np.float64)
    middles = (table[1:] + table[:-1]) / 2
    weight = draw.standard_normal(count).astype(np.float32)
    for begin in range(0, count, block):
        piece = weight[begin : begin + block]
        largest = np.abs(piece).max()
        at = draw.integers(0, len(piece), len(piece) // 2)
        near = (draw.choice(middles, len(at)) * largest).astype(np.float32)
        step = draw.integers(-1, 2, len(at))
        near = np.where(step > 0, np.nextafter(near, np.float32(9)), near)
        near = np.where(step < 0, np.nextafter(near, np.float32(-9)), near)
        piece[at] = near
    return torch.from_numpy(weight)


@HYPOTHESIS
@given(seed=SEEDS, count=st.integers(1, 700), block=st.sampled_from([2, 32, 64, 128, 256]), fp4=st.booleans())
def test_codes_and_absmax_are_the_definition_s_bit_for_bit(path, seed, count, block, fp4) -> None:
    weight = awkward(seed, count, block)
    levels = FP4 if fp4 else nf4_table()
    codes, absmax = kernel.Codebook(levels.tolist()).quantize(weight, block)
    expected_codes, expected_absmax = defined(weight.numpy(), levels, block)
    np.testing.assert_array_equal(unpacked(codes, count), expected_codes)
    assert absmax.numpy().tobytes() == expected_absmax.tobytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_block_that_is_not_finite_says_so_and_its_neighbours_do_not_change(path, value) -> None:
    weight = normal(0, 4, 64)
    clean = kernel.Codebook(nf4_table().tolist()).quantize(weight, 64)
    weight[1, 5] = value
    codes, absmax = kernel.Codebook(nf4_table().tolist()).quantize(weight, 64)
    assert absmax.isfinite().tolist() == [True, False, True, True]
    assert unpacked(codes, 256)[64:128].tolist() == [7] * 64
    assert torch.equal(codes.view(4, 32)[[0, 2, 3]], clean[0].view(4, 32)[[0, 2, 3]])


@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-40, 1e38])
def test_zeros_denormal_and_huge_weights_are_quantised_like_any(path, scale) -> None:
    weight = normal(1, 4, 64) * scale
    levels = nf4_table()
    codes, absmax = kernel.Codebook(levels.tolist()).quantize(weight, 64)
    expected_codes, expected_absmax = defined(weight.numpy(), levels, 64)
    np.testing.assert_array_equal(unpacked(codes, 256), expected_codes)
    np.testing.assert_array_equal(absmax.numpy(), expected_absmax)


@HYPOTHESIS
@given(seed=SEEDS, rows=st.integers(1, 9), columns=st.integers(1, 300), block=st.sampled_from([32, 64, 128]))
def test_dequantising_is_looking_up_and_scaling(path, seed, rows, columns, block) -> None:
    weight = normal(seed, rows, columns)
    technique = Kernel(levels="nf4", block=block)
    found = technique.dequantize(technique.quantize(weight))
    codes, absmax = defined(weight.numpy(), nf4_table(), block)
    expected = nf4_table()[codes] * np.repeat(absmax, block)[: rows * columns]
    np.testing.assert_array_equal(found.numpy().ravel(), expected)


@settings(HYPOTHESIS, max_examples=6)
@given(seed=SEEDS, more=st.integers(0, 9), columns=st.sampled_from([576, 640, 1088]))
def test_rows_of_a_large_matrix_have_the_bits_that_they_have_alone(path, seed, more, columns) -> None:
    """However many rows are multiplied together, and however far apart they lie."""
    technique, rows = Kernel(levels="nf4", precision="fixed"), (1 << 19) // columns + 1 + more
    weight, x = normal(seed, rows, columns), normal(seed + 1, 1, columns)
    found = technique.linear(x, technique.quantize(weight))
    pieces = [technique.linear(x, technique.quantize(piece)) for piece in weight.split(200)]
    assert torch.equal(found, torch.cat(pieces, dim=1))


PIECES = st.integers(1, 40).map(lambda pieces: 64 * pieces)


@HYPOTHESIS
@given(seed=SEEDS, rows=st.integers(1, 11), columns=PIECES, inputs=st.integers(1, 9), double=st.booleans())
def test_exact_products_are_those_of_the_dequantised_weight_but_for_rounding(
    path, require_product, seed, rows, columns, inputs, double
) -> None:
    technique = Kernel(levels="nf4", double=double, precision="exact")
    packed, x = technique.quantize(normal(seed, rows, columns)), normal(seed + 1, inputs, columns)
    # one input, in a block: a product and 4 additions; times its scale; 2 additions a block; the lanes, 15; and the
    # rounding of the weight itself, which is looked up and scaled. Several inputs are multiplied by torch.
    roundings = 2 * columns // 64 + 22 if inputs == 1 else columns
    require_product(technique.linear(x, packed), x, technique.dequantize(packed), roundings=roundings)


@HYPOTHESIS
@given(
    seed=SEEDS,
    rows=st.integers(1, 11),
    columns=PIECES,
    inputs=st.integers(1, 9),
    levels=st.sampled_from(["nf4", "fp4"]),
    block=st.sampled_from([64, 128, 256]),
    double=st.booleans(),
)
def test_fixed_point_products_are_off_by_half_a_step_and_finer_than_bfloat16(
    path, require_product, seed, rows, columns, inputs, levels, block, double
) -> None:
    technique = Kernel(levels=levels, block=block, double=double, precision="fixed")
    packed, x = technique.quantize(normal(seed, rows, columns)), normal(seed + 1, inputs, columns)
    weight, beside = technique.dequantize(packed), half_a_step(x, technique, packed)
    require_product(technique.linear(x, packed), x, weight, roundings=FIXED_ROUNDINGS + columns // 64, beside=beside)
    # inputs and weights in bfloat16 may each be off by 2^-9 of themselves
    assert (beside < 2.0**-8 * (x.double().abs() @ weight.double().abs().T)).all()


FIXED_ROUNDINGS = 32
"""Of a term in fixed point: its scales 6, itself 2, panels and the last block 8, the lanes 16; and 1 for each block."""


def half_a_step(x, technique, packed) -> torch.Tensor:
    """Return by how much fixed point may be off beside its roundings in float32, from its definition.

    Within 64 columns an integer stands for a step of the largest activation over 16383, and of the scale over 16383
    for a weight. Half a step may be lost of each; of an activation, whose integer takes two roundings in float32 to
    find, which are 2 * 16383 u < 0.002, a little more.
    """
    one = 0xFF if technique.scheme.id.startswith("NF4") else 0x33  # two codes of the level 1
    codes = torch.full_like(packed.tensors["codes"], one)
    scale = technique.dequantize(replace(packed, tensors={**packed.tensors, "codes": codes})).double()
    weight, x = technique.dequantize(packed).double(), x.double()
    of_x = x.unflatten(1, (-1, 64)).abs().amax(2).repeat_interleave(64, 1) * 0.502 / 16383
    of_weight = scale * 0.5 / 16383
    return (of_x @ (weight.abs() + of_weight).T + x.abs() @ of_weight.T) * (1 + 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inputs", [1, 2, 8, 64])
def test_products_of_half_precision_are_rounded_once_more(path_of_halves, require_product, dtype, inputs) -> None:
    technique = Kernel(levels="nf4")
    packed = technique.quantize(normal(0, 130, 1088))
    x = normal(1, inputs, 1088).to(dtype)
    found = technique.linear(x, packed)
    assert found.dtype == dtype
    weight = technique.dequantize(packed)
    beside = (
        2.0**-8 * (x.double().abs() @ weight.double().abs().T)
        if takes_halves(path_of_halves, inputs, x)
        else half_a_step(x, technique, packed)
    )
    rounding = torch.finfo(dtype).eps / 2 * (1 + 1e-2) * (x.double() @ weight.double().T).abs()
    roundings = FIXED_ROUNDINGS + 1088 // 64
    require_product(found, x, weight, roundings=roundings, beside=1.01 * beside + rounding)


def takes_halves(path: str, inputs: int, x: torch.Tensor) -> bool:
    few = inputs == 1 or (inputs <= kernel.FEW and x.shape[1] >= kernel.LONG)
    if path == "avx512-amx":
        few = inputs <= kernel.FEW_BESIDE_TILES
    return path in HALVES and x.dtype == torch.bfloat16 and not few


def test_the_largest_weights_and_activations_do_not_overflow_fixed_point(path) -> None:
    weight = torch.ones(5, 4096)
    technique = Kernel(levels="nf4", precision="fixed")
    for inputs in (1, 3):
        found = technique.linear(torch.full((inputs, 4096), -1e5), technique.quantize(weight))
        torch.testing.assert_close(found, torch.full((inputs, 5), -4096e5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("inputs", [1, 3])
def test_an_outlying_activation_costs_its_own_block_only(path, require_product, inputs) -> None:
    technique = Kernel(levels="nf4", precision="fixed")
    packed = technique.quantize(normal(0, 64, 1024))
    x = normal(1, inputs, 1024)
    x[:, 3] = 1e6
    x[:, 3] *= 0  # where the outlier was, nothing is left but its effect on the scales
    x[:, 64] = 1e4
    roundings = FIXED_ROUNDINGS + 1024 // 64
    weight, beside = technique.dequantize(packed), half_a_step(x, technique, packed)
    require_product(technique.linear(x, packed), x, weight, roundings=roundings, beside=beside)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e-35])
@pytest.mark.parametrize("inputs", [1, 3])
def test_activations_that_do_not_fit_fixed_point_are_multiplied_in_float32(path, value, inputs) -> None:
    technique = Kernel(levels="nf4", precision="fixed")
    packed = technique.quantize(normal(0, 64, 128))
    x = normal(1, inputs, 128)
    x[0, :64] = value
    found = technique.linear(x, packed)
    expected = Kernel(levels="nf4", precision="exact").linear(x, packed)
    assert found.isfinite().equal(expected.isfinite())
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)  # the same product


def test_threads_change_no_bit(path) -> None:
    technique = Kernel(levels="nf4")
    weight = normal(0, 515, 1024)
    x = normal(1, 5, 1024).bfloat16()
    alone = technique.quantize(weight)
    one = [technique.linear(x[:n], alone) for n in (1, 5)] + [technique.dequantize(alone)]
    torch.set_num_threads(3)
    try:
        packed = technique.quantize(weight)
        three = [technique.linear(x[:n], packed) for n in (1, 5)] + [technique.dequantize(packed)]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(alone.tensors[name], packed.tensors[name]) for name in alone.tensors)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_it_computes_in_torch_s_threads_and_makes_none_of_its_own() -> None:
    if kernel.pool() is None:
        pytest.skip("torch's OpenMP runtime has no GOMP_parallel")
    technique = Kernel(levels="nf4")
    packed = technique.quantize(normal(0, 2048, 1024))
    torch.set_num_threads(2)
    try:
        torch.ones(1 << 20).sum()  # torch's threads are there from here on
        before = tasks()
        technique.linear(normal(1, 4, 1024).bfloat16(), packed)
        assert tasks() <= before  # one of an earlier test may end meanwhile
    finally:
        torch.set_num_threads(1)


def tasks() -> set[int]:
    import psutil

    return {thread.id for thread in psutil.Process().threads()}


def test_two_python_threads_may_use_it_at_once(path) -> None:
    technique = Kernel(levels="nf4")
    packed = technique.quantize(normal(0, 256, 512))
    x = normal(1, 4, 512).bfloat16()
    expected = technique.linear(x, packed)
    wrong = []

    def repeat() -> None:
        wrong.extend(1 for _ in range(50) if not torch.equal(technique.linear(x, packed), expected))

    workers = [threading.Thread(target=repeat) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@HYPOTHESIS
@given(seed=SEEDS, rows=st.integers(1, 9), columns=st.integers(1, 200), block=st.sampled_from([32, 64, 256]))
def test_the_reference_packs_the_same_bits(path, seed, rows, columns, block) -> None:
    weight = normal(seed, rows, columns)
    for levels in ("nf4", "fp4"):
        for double in (False, True):
            ours = Kernel(levels=levels, block=block, double=double).quantize(weight)
            plain = reference.Blocks(levels=levels, block=block, double=double).quantize(weight)
            assert all(torch.equal(ours.tensors[name], plain.tensors[name]) for name in plain.tensors)


def test_without_its_library_the_reference_is_what_runs(monkeypatch, require_product, tmp_path) -> None:
    weight, x = normal(0, 8, 64), normal(1, 2, 64)
    expected = Kernel(levels="nf4").quantize(weight)
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "libkernel.so")
    technique = Kernel(levels="nf4")
    packed = technique.quantize(weight)
    assert torch.equal(packed.tensors["codes"], expected.tensors["codes"])
    require_product(technique.linear(x, packed), x, technique.dequantize(packed))


def test_gradients_reach_the_activations_and_are_those_of_the_dequantised_weight(path, require_product) -> None:
    technique = Kernel(levels="nf4")
    packed = technique.quantize(normal(0, 48, 128))
    x = normal(1, 5, 128).requires_grad_()
    gradient = normal(2, 5, 48)
    technique.linear(x, packed).backward(gradient)
    require_product(x.grad, gradient, technique.dequantize(packed).T)


def test_a_path_that_the_processor_lacks_cannot_be_forced() -> None:
    if not kernel.available():
        pytest.skip("the plugin was installed without a compiler")
    with pytest.raises(ValueError, match="neon"), kernel.use_path("neon"):
        pass
