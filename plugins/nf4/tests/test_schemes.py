"""Schemes in plain torch: what each keeps, how many bits that is, and how much error it makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness_nf4.packing import fitted
from harness_nf4.reference import LEVELS, Affine, Blocks, KMeans, Plain, Rows

from harness.api import UsageError
from harness.families.quantize import schemes
from harness.families.quantize.contract import stored_bytes


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bits(technique, weight) -> float:
    return 8 * stored_bytes(technique.quantize(weight)) / weight.numel()


def error(technique, weight) -> float:
    return (technique.dequantize(technique.quantize(weight)) - weight).square().mean().sqrt().item()


@pytest.mark.parametrize(
    ("technique", "expected"),
    [
        (Blocks(levels="nf4"), 4.5),
        (Blocks(levels="nf4", block=32), 5),
        (Blocks(levels="nf4", double=True), 4 + 8 / 64 + 32 / (64 * 256)),
        (Blocks(levels="int8"), 8.5),
        (Affine(bits=4), 5),
        (Affine(bits=8), 9),
        (Affine(bits=4, double=True), 4 + 2 * (8 / 64 + 32 / (64 * 256))),
        (KMeans(), 4.5),
        (KMeans(double=True), 4 + 8 / 64 + 32 / (64 * 256)),
        (Blocks(levels="fp8-e4m3"), 8.5),
        (Blocks(levels="int8", double=True), 8 + 8 / 64 + 32 / (64 * 256)),
        (Rows(), 8 + 32 / 1024),
        (Plain(dtype="bfloat16"), 16),
    ],
    ids=lambda value: value if isinstance(value, float | int) else value.scheme.id,
)
def test_bits_are_those_of_codes_and_scales(technique, expected) -> None:
    assert bits(technique, normal(0, 1024, 1024)) == pytest.approx(expected, abs=1e-3)


def test_qlora_s_4_127_bits() -> None:
    assert bits(Blocks(levels="nf4", double=True), normal(0, 2048, 1024)) == pytest.approx(4.127, abs=1e-3)


DOUBLES = {
    **{name: lambda double, name=name: Blocks(levels=name, double=double) for name in LEVELS},
    "int4-affine": lambda double: Affine(bits=4, double=double),
    "int8-affine": lambda double: Affine(bits=8, double=double),
    "k-means": lambda double: KMeans(double=double),
}


@pytest.mark.parametrize("make", DOUBLES.values(), ids=list(DOUBLES))
def test_double_quantisation_costs_less_than_a_hundredth_in_error_and_saves_three_eighths_of_a_bit(make) -> None:
    weight = normal(0, 512, 512)
    once, twice = make(False), make(True)
    assert 0 < abs(error(twice, weight) - error(once, weight)) < 0.01
    each = 32 / 64 - 8 / 64 - 32 / (64 * 256)
    saved = bits(once, weight) - bits(twice, weight)
    assert saved == pytest.approx(each * (2 if "affine" in once.scheme.id else 1), abs=1e-3)


def test_codes_of_affine_values_make_up_for_the_rounding_of_their_scales() -> None:
    weight = normal(0, 512, 512)
    technique = Affine(bits=4, double=True)
    packed = technique.quantize(weight)
    exact = Affine(bits=4).quantize(weight).tensors["codes"]
    unaware = technique.dequantize(replace(packed, tensors={**packed.tensors, "codes": exact})) - weight
    assert error(technique, weight) < unaware.square().mean().sqrt()


@pytest.mark.parametrize("name", ["fp8-e4m3", "fp8-e5m2"])
def test_codes_of_8_bit_floats_are_those_of_torch_for_the_same_values(name) -> None:
    dtype, largest = {"fp8-e4m3": (torch.float8_e4m3fn, 448), "fp8-e5m2": (torch.float8_e5m2, 57344)}[name]
    weight = normal(0, 64, 64)
    packed = Blocks(levels=name).quantize(weight)
    scaled = (weight.view(-1, 64) / weight.view(-1, 64).abs().amax(1, keepdim=True) * largest).to(dtype)
    mine = packed.tensors["codes"].view(dtype).float().view(-1, 64)
    assert (mine != scaled.float()).sum() <= 2  # the middle of two is rounded down here, to even there


def test_doubly_quantised_scales_are_off_by_half_a_step_at_most() -> None:
    technique = Blocks(levels="nf4", double=True)
    weight = normal(0, 512, 512) * torch.logspace(-2, 2, 512)[:, None]
    tensors = technique.quantize(weight).tensors
    absmax = weight.view(-1, 64).abs().amax(1)
    found = (tensors["absmax"].view(-1, 256) * tensors["absmax_scale"][:, None]).view(-1) + tensors["absmax_mean"]
    step = tensors["absmax_scale"].repeat_interleave(256)
    assert ((found - absmax).abs() <= step * 0.501 + 1e-5 * absmax.max()).all()


def test_k_means_beats_nf4_on_the_weights_it_was_fitted_to() -> None:
    for weight in (normal(0, 256, 256), normal(0, 256, 256).exp()):
        assert error(KMeans(), weight) < error(Blocks(levels="nf4"), weight)


def test_fitted_levels_are_the_means_of_what_is_nearest_to_them() -> None:
    weight = normal(0, 128, 256)
    levels = fitted(weight, 64, schemes.nf4_levels()).double()
    blocks = weight.double().view(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    values, mass = (blocks / scale).flatten(), scale.square().expand(-1, 64).flatten()
    nearest = (values[:, None] - levels[None, :]).abs().argmin(1)
    means = torch.stack(
        [(values * mass)[nearest == k].sum() / mass[nearest == k].sum() for k in range(16)]
    )  # one step of Lloyd's algorithm, which has all but settled
    assert (means - levels).abs().max() < 0.01
    assert levels.diff().min() > 0


def test_integers_are_rounded_as_a_search_among_their_levels_would() -> None:
    weight = normal(0, 64, 64)
    weight[0, :8] = torch.tensor([7.0, 0.5, 1.5, -0.5, -1.5, 6.9, -7.0, 0.0])
    for name, width in (("int4", 4), ("int8", 8)):
        technique = Blocks(levels=name)
        expected = schemes.define(schemes.codebook(name, schemes.integer_levels(width), width), weight).values
        torch.testing.assert_close(
            technique.dequantize(technique.quantize(weight)).double(), expected, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Blocks(levels="nf5"),
        lambda: Blocks(levels="nf4", block=7),
        lambda: Affine(bits=3),
        lambda: KMeans(block=0),
    ],
)
def test_parameters_that_make_no_sense_are_told(make) -> None:
    with pytest.raises(UsageError, match="expected"):
        make()
