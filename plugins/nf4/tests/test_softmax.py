"""Softmax in C++, each algorithm on each path, against SciPy in float64 and against the algorithms written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_nf4 import kernel
from harness_nf4.softmax import ALGORITHMS, Softmax, TorchSoftmax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special

from harness.api import Unavailable, UsageError
from harness.families.softmax.checks import require_correct

SEEDS = st.integers(0, 2**31)
HYPOTHESIS = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
EPSILON = 2.0**-23


@pytest.fixture(params=ALGORITHMS)
def technique(request: pytest.FixtureRequest, path: str) -> Softmax:
    """Each algorithm on each path, emulated AVX-512 too."""
    return Softmax(algorithm=request.param, path=path)


def applied(technique: Softmax | TorchSoftmax, x: torch.Tensor) -> torch.Tensor:
    out = torch.full_like(x, 7.0)
    technique.softmax(x, out)
    return out


def exact(x: torch.Tensor) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        found: np.ndarray = special.softmax(x.double().numpy(), axis=1)
    return found


def error(found: torch.Tensor, expected: np.ndarray) -> float:
    """The largest, in epsilons relative to what is expected; denormal probabilities may be 0."""
    off = np.maximum(np.abs(found.double().numpy() - expected) - 2.0**-126, 0)
    return float((off / np.maximum(expected, 2.0**-126)).max() / EPSILON)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_passes_the_judge_s_gate(technique) -> None:
    require_correct(technique)


@HYPOTHESIS
@given(seed=SEEDS, rows=st.integers(1, 3), columns=st.integers(1, 300), shift=st.floats(-1000, 1000, width=32))
def test_probabilities_are_those_of_float64_within_few_epsilons(technique, seed, rows, columns, shift) -> None:
    x = normal(seed, rows, columns) + shift
    assert error(applied(technique, x), exact(x)) <= 6


@HYPOTHESIS
@given(seed=SEEDS, columns=st.integers(1, 300), size=st.sampled_from([30.0, 1e3, 1e5, 1e30]))
def test_numbers_far_apart_cost_the_rounding_of_their_difference_at_most(technique, seed, columns, size) -> None:
    x = size * normal(seed, 2, columns)
    # probabilities that float32 holds belong to numbers within 104 of the largest: half a unit in the last place of 104
    assert error(applied(technique, x), exact(x)) <= 6 + 2.0**-18 / EPSILON


def test_two_passes_round_no_difference(path) -> None:
    x = 30 * normal(1, 4000, 200)
    assert error(applied(Softmax(algorithm="two-pass", path=path), x), exact(x)) <= 4.2


@pytest.mark.parametrize("columns", [4095, 4096, 4097, 4096 + 64, 3 * 4096 + 5])
def test_long_rows_are_summed_block_by_block(technique, columns) -> None:
    x = normal(1, 2, columns)
    assert error(applied(technique, x), exact(x)) <= 8


def test_small_terms_count_beside_a_large_one_on_a_row_of_a_million(technique) -> None:
    x = torch.full((1, 1 << 20), -18.0)
    x[0, 5] = 0
    found = applied(technique, x)
    # one float32 for all would lose each of the million: 134,000 epsilons
    assert abs(float(found[0, 5]) * (1 + ((1 << 20) - 1) * math.exp(-18)) - 1) < 70 * EPSILON


@pytest.mark.parametrize("largest", [-70_000.0, -50_000.0, -45_427.0, 45_425.0, 45_427.0, 90_000.0, 1e8, 3e38])
def test_where_exponents_are_too_far_from_0_the_row_is_left_to_three_passes(path, largest) -> None:
    x = -normal(2, 3, 200).abs() * 10
    x[1] += largest
    x[1, 7] = largest
    found = applied(Softmax(algorithm="two-pass", path=path), x)
    assert error(found, exact(x)) <= 6 + 2.0**-18 / EPSILON


@HYPOTHESIS
@given(
    seed=SEEDS,
    columns=st.integers(1, 200),
    special=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -3e38]))),
)
def test_numbers_that_are_none_are_treated_as_torch_treats_them(technique, seed, columns, special) -> None:
    x = normal(seed, 3, columns)
    for place, value in special:
        x[1, place % columns] = value
    found, expected = applied(technique, x), torch.softmax(x.double(), 1)
    assert found.isnan().equal(expected.isnan())
    assert error(found.nan_to_num(0), expected.nan_to_num(0).numpy()) <= 6 + 2.0**-18 / EPSILON


@HYPOTHESIS
@given(seed=SEEDS, columns=st.integers(1, 200))
def test_masked_rows_are_those_of_what_is_left(technique, seed, columns) -> None:
    x = normal(seed, 1, 2 * columns)
    masked = torch.full((1, 2 * columns), -math.inf)
    kept = torch.randperm(2 * columns, generator=torch.Generator().manual_seed(seed))[:columns].sort().values
    masked[:, kept] = x[:, kept]
    found = applied(technique, masked)
    assert error(found[:, kept], exact(x[:, kept])) <= 6
    assert (found.sum(dtype=torch.float64) - found[:, kept].sum(dtype=torch.float64)) == 0


def test_rows_do_not_know_of_each_other(technique) -> None:
    x = normal(3, 5, 333)
    alone = torch.cat([applied(technique, x[i : i + 1].clone()) for i in range(5)])
    assert torch.equal(applied(technique, x), alone)


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 5])
def test_rows_may_begin_anywhere(technique, offset) -> None:
    memory = normal(4, 2 * 100 + 8)
    x = memory[offset : offset + 200].view(2, 100)
    out = torch.zeros(300)[offset + 1 : offset + 201].view(2, 100)
    technique.softmax(x, out)
    assert torch.equal(out, applied(technique, x.clone()))


def test_what_takes_three_passes_agrees_bit_for_bit_whether_it_stores_or_not(path) -> None:
    x = 5 * normal(5, 4, 1000)
    both = [applied(Softmax(algorithm=name, path=path), x) for name in ("three-pass-recompute", "three-pass-reload")]
    assert torch.equal(*both)


def test_an_emulated_path_differs_from_a_real_one_by_the_order_of_sums_at_most(path) -> None:
    x = 5 * normal(6, 4, 1000)
    for name in ALGORITHMS:
        found, portable = (applied(Softmax(algorithm=name, path=one), x) for one in (path, "portable"))
        assert error(found, portable.double().numpy()) <= 4


@pytest.mark.usefixtures("path")
def test_without_a_path_the_best_of_the_processor_is_taken() -> None:
    best = kernel.supported_paths()[-1]
    x = normal(7, 2, 1000)
    assert torch.equal(applied(Softmax(algorithm="two-pass"), x), applied(Softmax(algorithm="two-pass", path=best), x))


def test_torch_s_own_passes_the_gate() -> None:
    require_correct(TorchSoftmax())


def test_a_path_that_the_processor_lacks_is_unavailable(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "supported_paths", lambda: ("portable", "avx2"))
    with pytest.raises(Unavailable, match="has no avx512; it takes portable, avx2"):
        Softmax(algorithm="two-pass", path="avx512")


def test_without_its_library_it_is_unavailable(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "libkernel.so")
    with pytest.raises(Unavailable, match="for want of a compiler"):
        Softmax(algorithm="two-pass")


@pytest.mark.parametrize(("name", "value"), [("algorithm", "one-pass"), ("path", "neon")])
def test_a_name_that_is_not_known_is_told_with_those_that_are(name, value) -> None:
    with pytest.raises(UsageError, match=f"{name} '{value}': expected one of .*, "):
        Softmax(**{"algorithm": "two-pass", name: value})
