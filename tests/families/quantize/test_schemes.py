"""Definitions of quantisation: tables against SciPy, invariants of every scheme, errors against integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm

from harness.families.quantize import schemes
from harness.families.quantize.anchors import anchor
from harness.families.quantize.schemes import MANY_NUMBERS, ROW, Scheme, define, nearest

SEEDS = st.integers(0, 2**31)
INT4 = schemes.codebook("INT4", schemes.integer_levels(4), 4)
INT8 = schemes.codebook("INT8", schemes.integer_levels(8), 8)
SHIFT = schemes.codebook("DenseShift", schemes.shift_levels(4), 4)
E4M3 = schemes.codebook("FP8 E4M3", schemes.fp8_levels(4), 8)
E5M2 = schemes.codebook("FP8 E5M2", schemes.fp8_levels(5), 8)
CODEBOOKS = {
    "e4m3": E4M3,
    "e5m2": E5M2,
    "nf4": schemes.nf4(),
    "fp4": schemes.fp4(),
    "int4": INT4,
    "int8": INT8,
    "shift": SHIFT,
}

each_codebook = pytest.mark.parametrize("scheme", CODEBOOKS.values(), ids=list(CODEBOOKS))


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_nf4_is_made_of_normal_quantiles() -> None:
    offset = (31 / 32 + 29 / 30) / 2
    quantiles = [*norm.ppf(np.linspace(offset, 0.5, 9)[:-1]), 0, *-norm.ppf(np.linspace(offset, 0.5, 8)[:-1])]
    assert schemes.nf4_levels() == pytest.approx(sorted(quantiles / max(quantiles)), abs=2e-7)
    assert all(np.float32(level) == level for level in schemes.nf4_levels())


@pytest.mark.parametrize(
    ("exponent", "dtype", "largest"), [(4, torch.float8_e4m3fn, 448), (5, torch.float8_e5m2, 57344)]
)
def test_8_bit_floats_are_all_that_torch_has(exponent: int, dtype: torch.dtype, largest: float) -> None:
    numbers = torch.arange(256, dtype=torch.uint8).view(dtype).double()
    expected = numbers[numbers.isfinite()].unique() / largest
    assert schemes.fp8_levels(exponent) == tuple(expected.float().double().tolist())


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (schemes.nf4(), 0.091979),
        (schemes.nf4(32), 0.087312),
        (schemes.nf4(128), 0.09558),
        (schemes.nf4(256), 0.098635),
        (schemes.fp4(), 0.121945),
        (INT4, 0.107599),
        (SHIFT, 0.188185),
        (INT8, 0.005930),
    ],
    ids=["nf4", "nf4-32", "nf4-128", "nf4-256", "fp4", "int4", "shift", "int8"],
)
def test_errors_on_normal_weights_are_the_known_ones(scheme: Scheme, expected: float) -> None:
    assert anchor(scheme) == pytest.approx(expected, abs=1e-5)


def test_the_closed_form_is_what_quadrature_gives() -> None:
    levels, block = np.array(schemes.nf4_levels()), 64

    def inner(largest: float) -> float:
        edges = np.concatenate([[-1], (levels[1:] + levels[:-1]) / 2, [1]]) * largest
        parts = [
            integrate.quad(lambda x, c=c: (x - c * largest) ** 2 * norm.pdf(x), a, b)[0]
            for a, b, c in zip(edges, edges[1:], levels, strict=False)
        ]
        return sum(parts) / (2 * norm.cdf(largest) - 1)

    def density(m: float) -> float:
        return block * (2 * norm.cdf(m) - 1) ** (block - 1) * 2 * norm.pdf(m)

    grid = np.linspace(0.9, 5.5, 47)
    mean = integrate.simpson([inner(m) * density(m) for m in grid], x=grid)
    assert anchor(schemes.nf4()) == pytest.approx(math.sqrt(mean * (block - 1) / block), abs=1e-5)


@each_codebook
def test_a_sample_s_error_is_what_integration_gives(scheme: Scheme) -> None:
    weight = normal(0, 2048, 1024)
    error = (define(scheme, weight).values - weight.double()).square().mean().sqrt().item()
    assert error == pytest.approx(anchor(scheme), abs=2e-4)


@each_codebook
@given(seed=SEEDS)
def test_every_value_is_the_nearest_level_and_the_lower_of_two(scheme: Scheme, seed: int) -> None:
    weight = normal(seed, 3, 64)
    levels = np.array(scheme.levels)
    for row, values in zip(weight.double().numpy(), define(scheme, weight).values.numpy(), strict=True):
        largest = np.abs(row).max()
        distances = np.abs(row[:, None] / largest - levels[None, :])
        np.testing.assert_allclose(values, levels[distances.argmin(1)] * largest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scheme", [schemes.nf4(), schemes.fp4()], ids=lambda scheme: scheme.id)
def test_many_numbers_have_the_levels_of_few(scheme: Scheme) -> None:
    table = torch.tensor(scheme.levels, dtype=torch.float64)
    middles = (table[1:] + table[:-1]) / 2
    random = 2 * torch.rand(MANY_NUMBERS, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    numbers = torch.cat([table, middles, middles.nextafter(table[1:]), middles.nextafter(table[:-1]), random])
    few = torch.cat([nearest(part, scheme.levels) for part in numbers.chunk(8)])
    assert torch.equal(nearest(numbers, scheme.levels), few)


def test_of_two_levels_as_near_the_lower_is_taken() -> None:
    weight = torch.tensor([[1.0, -1.0, 0.75, -0.75, 0.375, -0.375]])
    halves = Scheme(id="halves", kind="codebook", bits=3, block=6, levels=(-1.0, -0.5, 0.0, 0.5, 1.0))
    assert define(halves, weight).values.tolist() == [[1.0, -1.0, 0.5, -1.0, 0.5, -0.5]]


@each_codebook
@given(seed=SEEDS, exponent=st.integers(-20, 20))
def test_rounding_again_changes_nothing_and_powers_of_two_pass_through(
    scheme: Scheme, seed: int, exponent: int
) -> None:
    weight = normal(seed, 2, 128)
    once = define(scheme, weight).values
    np.testing.assert_allclose(define(scheme, once).values, once, rtol=1e-12)
    np.testing.assert_array_equal(define(scheme, weight * 2.0**exponent).values, once * 2.0**exponent)


@each_codebook
@given(seed=SEEDS)
def test_rounding_is_monotone_and_keeps_the_largest_value_of_a_block(scheme: Scheme, seed: int) -> None:
    weight = normal(seed, 1, 64).sort().values
    values = define(scheme, weight).values
    assert (values.diff() >= 0).all()
    at = weight.abs().argmax()
    assert values[0, at] == weight[0, at].double()


def test_nf4_errs_by_at_most_half_its_widest_gap() -> None:
    weight = normal(0, 512, 64)
    error = (define(schemes.nf4(), weight).values - weight).abs() / weight.abs().amax(1, keepdim=True)
    assert error.max() <= 0.1519


@given(seed=SEEDS, bits=st.sampled_from([4, 8]))
def test_affine_values_are_equidistant_and_hold_both_ends(seed: int, bits: int) -> None:
    weight = normal(seed, 2, 64)
    values = define(Scheme(id="affine", kind="affine", bits=bits), weight).values
    for row, found in zip(weight.double(), values, strict=True):
        step = (row.max() - row.min()) / (2**bits - 1)
        places = (found - row.min()) / step
        assert ((places - places.round()).abs() < 1e-9).all()
        assert ((found - row).abs() <= step / 2 * (1 + 1e-9)).all()
        assert [float(bound) for bound in found.aminmax()] == pytest.approx(
            [float(bound) for bound in row.aminmax()], rel=1e-12
        )


@given(rows=st.integers(0, 5), columns=st.integers(1, 9), block=st.sampled_from([ROW, 1, 4, 64]))
def test_dividing_into_blocks_and_joining_them_is_the_identity(rows: int, columns: int, block: int) -> None:
    weight = normal(0, rows, columns)
    assert torch.equal(schemes.out_of_blocks(schemes.in_blocks(weight, block), weight.shape), weight)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_poisoned_block_is_unsound_and_its_neighbours_are_not(value: float) -> None:
    weight = normal(0, 2, 128)
    weight[0, 70] = value
    found = define(schemes.nf4(), weight)
    assert found.sound.view(4, 64).all(1).tolist() == [True, False, True, True]
    assert found.values.isfinite().all()
    assert not define(schemes.nf4(double=True), weight).sound.any()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["codebook", "affine", "cast", "learned"])
@pytest.mark.parametrize(
    ("shape", "block"), [((40, 128), 64), ((40, 96), 64), ((37, 100), 64), ((40, 7), 64), ((40, 96), schemes.ROW)]
)
def test_a_definition_in_pieces_is_the_definition(kind, shape, block, double) -> None:
    scheme = schemes.Scheme(id="any", kind=kind, bits=4, block=block, levels=schemes.NF4, double=double)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    whole = schemes.define(scheme, weight)
    for size in (1, 700, 10_000):
        pieces = list(schemes.define_in_pieces(scheme, weight, size))
        for name in ("values", "differ", "sound"):
            joined = torch.cat([getattr(piece, name) for _, piece in pieces])
            torch.testing.assert_close(joined, getattr(whole, name), rtol=1e-12, atol=0)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_levels_at_normal_quantiles_are_as_many_as_codes_and_hold_nought_and_one(bits) -> None:
    levels = schemes.normal_levels(bits)
    assert len(set(levels)) == 2**bits
    assert list(levels) == sorted(levels)
    assert levels[-1] == 1
    assert 0.0 in levels
    assert bits == 1 or levels[0] == -1


def test_normal_quantiles_of_4_bits_are_nf4_by_its_formula() -> None:
    end = (31 / 32 + 29 / 30) / 2
    sides = [norm.ppf(np.linspace(end, 0.5, 9)[:-1]), -norm.ppf(np.linspace(end, 0.5, 8)[:-1]), [0.0]]
    expected = np.sort(np.concatenate(sides)) / norm.ppf(end)
    np.testing.assert_allclose(schemes.normal_levels(4), expected, atol=2e-7)
    thirds = (15 / 16 + 13 / 14) / 2
    assert schemes.normal_levels(3)[-2] == pytest.approx(norm.ppf(0.5 + 3 / 4 * (thirds - 0.5)) / norm.ppf(thirds))
