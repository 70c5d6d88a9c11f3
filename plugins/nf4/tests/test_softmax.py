"""Softmax in C++, each algorithm on each path, against SciPy in float64 and against the algorithms written out here."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
import torch
from harness_nf4 import kernel
from harness_nf4.softmax import ALGORITHMS, PATHS, Softmax, TorchSoftmax
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from harness.api import Unavailable, UsageError
from harness.families.softmax.checks import require_correct
from harness.judge import machine

SEEDS = st.integers(0, 2**31)
HYPOTHESIS = settings(max_examples=25)
UNIT = 2.0**-24


class Known(Softmax):
    """Softmax that tells by which algorithm and on which path, as its rounding depends on both."""

    def __init__(self, algorithm: str, path: str) -> None:
        super().__init__(algorithm=algorithm, path=path)
        self.algorithm, self.path = algorithm, path


@pytest.fixture(params=["portable", "avx2", "avx512", "avx512 emulated"])
def path(request, force_path):
    """Each path of softmax, forced."""
    with force_path(request.param) as name:
        yield name


@pytest.fixture(params=ALGORITHMS)
def technique(request: pytest.FixtureRequest, path: str) -> Known:
    """Each algorithm on each path, emulated AVX-512 too."""
    return Known(request.param, path)


def applied(technique: Softmax | TorchSoftmax, x: torch.Tensor) -> torch.Tensor:
    out = torch.full_like(x, 7.0)
    technique.softmax(x, out)
    return out


def exact(x: torch.Tensor) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        found: np.ndarray = special.softmax(x.double().numpy(), axis=1)
    return found


# Rounding, counted in units of u = 2^-24, the unit roundoff of float32; the same on every processor, since it follows
# from the operations that softmax.h writes down and not from what any of them happened to give.
#
# One exponential e^x = e^t 2^n, relative to itself:
#   0.51  t = x - n ln 2, |t| < 0.35: two roundings of at most half a unit in the last place of [1/4, 1/2), and ln 2
#   1.64  the polynomial's distance from e^t on |t| < 0.35, computed from its coefficients in float64
#   1.75  its steps, each product and each sum rounded (fewer, where they are fused): 1.35 in the last step but one,
#         times |t|, and half units of t p < 0.42 and of the result, which is above 0.70
EXPONENTIAL = 4
WORDS = {"portable": 8, "avx2": 8, "avx512": 16}  # floats in a vector; four vectors are a step
BLOCK = 4096  # numbers summed in float32; the sum over blocks is in float64, and adds nothing that shows


def steps(row: np.ndarray, words: int) -> np.ndarray:
    """Return the largest of the four vectors of each step, by block and lane: blocks, steps, lanes."""
    size = min(BLOCK, -(-len(row) // (4 * words)) * 4 * words)
    padded = np.full(-(-len(row) // size) * size, -np.inf)
    padded[: len(row)] = np.nan_to_num(row, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    found: np.ndarray = padded.reshape(-1, size // (4 * words), 4, words).max(2)
    return found


def roundings_of_sum(row: np.ndarray, technique: Known) -> int:
    """Return the most roundings of one term on its way into a row's sum; terms are positive, so each costs 1 u."""
    words = WORDS[technique.path]
    lanes = steps(row, words)
    # two additions join the four vectors, one joins each step, and the lanes are added one after another at the worst
    added = 2 + lanes.shape[1] + words - 1
    if technique.algorithm != "online":
        return added
    # each time that a lane meets a larger number its sum is multiplied by an exponential, and once more at the end; the
    # count starts anew with each block, as if none knew what the block before has met
    largest = np.maximum.accumulate(lanes, axis=1)
    rises = (largest[:, 1:] > largest[:, :-1]).sum(1).max() if lanes.shape[1] > 1 else 0
    return int(added + (rises + 1) * (EXPONENTIAL + 1))


def bound(x: torch.Tensor, technique: Known) -> np.ndarray:
    """Return by how much, relative to itself, each probability of ``technique`` may be off the definition.

    A probability is an exponential times the rounded reciprocal of the sum: both exponentials, the sum, and two
    roundings. Where the largest number m is taken from each x first, the difference is rounded, which costs e^(x - m)
    up to |x - m| u, and the sum the mean of these: the conditioning of softmax. Two passes take nothing from x unless
    its exponent is far from 0. Nothing is left of a probability past 104, so neither is a difference.
    """
    values, p = x.double().numpy(), exact(x)
    with np.errstate(invalid="ignore"):
        apart = np.minimum(values.max(1, keepdims=True) - values, 104)
    if technique.algorithm == "two-pass" and np.abs(values.max(1)).max() < 45_000:
        apart = np.zeros_like(apart)
    units = np.array([[2 * EXPONENTIAL + 2 + roundings_of_sum(row, technique)] for row in values])
    total: np.ndarray = UNIT * (units + apart + (p * apart).sum(1, keepdims=True))
    return total / (1 - total)  # the products of what is counted singly


def off(found: torch.Tensor, expected: np.ndarray) -> np.ndarray:
    """Return how far each is off, relative to what is expected; denormal probabilities may be 0."""
    absolute = np.maximum(np.abs(found.double().numpy() - expected) - 2.0**-126, 0)
    relative: np.ndarray = absolute / np.maximum(expected, 2.0**-126)
    return relative


def require_defined(technique: Known, x: torch.Tensor) -> None:
    """Raise AssertionError unless softmax is the definition's in float64, but for the roundings that are counted."""
    ratio = off(applied(technique, x), exact(x)) / bound(x, technique)
    assert ratio.max() <= 1, f"{technique.algorithm} on {technique.path}: {ratio.max():.3g} of what rounding explains"


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_passes_the_judge_s_gate(technique) -> None:
    require_correct(technique)


@HYPOTHESIS
@given(seed=SEEDS, rows=st.integers(1, 3), columns=st.integers(1, 300), shift=st.floats(-1000, 1000, width=32))
def test_probabilities_are_those_of_float64_within_their_rounding(technique, seed, rows, columns, shift) -> None:
    require_defined(technique, normal(seed, rows, columns) + shift)


@HYPOTHESIS
@given(seed=SEEDS, columns=st.integers(1, 300), size=st.sampled_from([30.0, 1e3, 1e5, 1e30]))
def test_numbers_far_apart_cost_the_rounding_of_their_difference_at_most(technique, seed, columns, size) -> None:
    require_defined(technique, size * normal(seed, 2, columns))


def test_two_passes_round_no_difference(path) -> None:
    x = 30 * normal(1, 4000, 200)
    two, three = (Known(name, path) for name in ("two-pass", "three-pass-reload"))
    require_defined(two, x)
    # what three passes round is more than two may be off: the bound would tell
    assert (off(applied(three, x), exact(x)) > bound(x, two)).any()


@pytest.mark.parametrize("columns", [4095, 4096, 4097, 4096 + 64, 3 * 4096 + 5])
def test_long_rows_are_summed_block_by_block(technique, columns) -> None:
    require_defined(technique, normal(1, 2, columns))


def test_small_terms_count_beside_a_large_one_on_a_row_of_a_million(technique) -> None:
    x = torch.full((1, 1 << 20), -18.0)
    x[0, 5] = 0
    require_defined(technique, x)
    # one float32 for all would lose each of the million: e^-18 is less than half a unit in the last place of 1
    assert ((1 << 20) - 1) * math.exp(-18) > 100 * bound(x, technique)[0, 5]


@pytest.mark.parametrize("largest", [-70_000.0, -50_000.0, -45_427.0, 45_425.0, 45_427.0, 90_000.0, 1e8, 3e38])
def test_where_exponents_are_too_far_from_0_the_row_is_left_to_three_passes(path, largest) -> None:
    x = -normal(2, 3, 200).abs() * 10
    x[1] += largest
    x[1, 7] = largest
    require_defined(Known("two-pass", path), x)


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
    number = ~expected.isnan().any(1)
    error = off(found[number], expected[number].numpy())
    assert (error <= bound(x[number], technique)).all()


@HYPOTHESIS
@given(seed=SEEDS, columns=st.integers(1, 200))
def test_masked_rows_are_those_of_what_is_left(technique, seed, columns) -> None:
    x = normal(seed, 1, 2 * columns)
    masked = torch.full((1, 2 * columns), -math.inf)
    kept = torch.randperm(2 * columns, generator=torch.Generator().manual_seed(seed))[:columns].sort().values
    masked[:, kept] = x[:, kept]
    found = applied(technique, masked)
    assert (off(found[:, kept], exact(x[:, kept])) <= bound(masked, technique)[:, kept.numpy()]).all()
    assert (found.sum(dtype=torch.float64) - found[:, kept].sum(dtype=torch.float64)) == 0


def test_rows_do_not_know_of_each_other(technique) -> None:
    x = normal(3, 5, 333)
    alone = torch.cat([applied(technique, x[i : i + 1].clone()) for i in range(5)])
    assert torch.equal(applied(technique, x), alone)


# a row that is one part, that has a rest beyond its parts, whose parts are longer than two blocks; few rows and many
@pytest.mark.parametrize("shape", [(1, 8192), (1, 3 * 8192 + 77), (1, 140 * 4096 + 1), (3, 20_000), (31, 1000), (8, 0)])
def test_any_number_of_threads_gives_the_same_bits(technique, shape) -> None:
    x = normal(8, *shape)
    x[-1:, 3:9_000:1000] += 30  # so that parts differ in their largest number
    alone = applied(technique, x)
    for count in (2, 3):
        with machine.threads(count):
            assert torch.equal(applied(technique, x), alone)


def test_the_threads_of_torch_share_a_long_row_and_many_rows() -> None:
    """Seen from the pool: as many threads are asked for as torch has, for each pass of a row or for all rows."""
    asked: list[int] = []

    @ctypes.CFUNCTYPE(None, ctypes.CFUNCTYPE(None, ctypes.c_void_p), ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    def pool(region, given, count, _) -> None:
        asked.append(count)
        region(given)

    if not kernel.available():
        pytest.skip("the plugin was installed without a compiler")
    technique = Softmax(algorithm="two-pass")
    library = kernel.loaded(kernel.LIBRARY)
    library.harness_use_pool(ctypes.cast(pool, ctypes.c_void_p))
    try:
        with machine.threads(2):
            technique.softmax(normal(9, 1, 50_000), torch.empty(1, 50_000))
            technique.softmax(normal(9, 50, 1000), torch.empty(50, 1000))
    finally:
        library.harness_use_pool(kernel.pool())
    assert asked == [2, 2, 2]


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


def spread(found: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far the quotients of two paths' probabilities are apart within a row, relative to the least.

    The quotient of two sums, in whatever order they were added, is the same in all of a row and drops out.
    """
    assert (other >= 2.0**-126).all(), "what is denormal has lost digits"
    quotients = found.double() / other.double()
    return float((quotients.amax(1) / quotients.amin(1)).max()) - 1


def allowed_spread(*roundings: float) -> float:
    """Return the spread of quotients both of whose sides carry ``roundings``: they may all differ at both ends."""
    total = 2 * sum(roundings) * UNIT
    return total / (1 - total)


# numbers up to 80 apart, 115 powers of 2: where no probability is denormal, and what n ln 2 is off by counts most
FAR_APART = 80 * (torch.rand(4, 1000, generator=torch.Generator().manual_seed(6)) - 0.5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_paths_differ_by_the_order_of_sums_and_the_rounding_of_exponentials(algorithm, path) -> None:
    found, portable = (applied(Softmax(algorithm=algorithm, path=name), FAR_APART) for name in (path, "portable"))
    # each side an exponential and the rounding of its product with the reciprocal; differences are the same on both
    assert spread(found, portable) <= allowed_spread(EXPONENTIAL + 1, EXPONENTIAL + 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_emulated_path_differs_from_the_real_one_by_the_order_of_sums(algorithm, emulated, monkeypatch) -> None:
    if "avx512" not in kernel.supported_paths():
        pytest.skip("this processor has no avx512 to hold the emulation against")
    technique = Softmax(algorithm=algorithm, path="avx512")
    real = applied(technique, FAR_APART)
    monkeypatch.setattr(kernel, "LIBRARY", emulated)
    # the exponentials are the same bits, so only the products with the reciprocals of the sums are rounded
    assert spread(applied(technique, FAR_APART), real) <= allowed_spread(1, 1)


# what is right in avx512_emulated.h, a fault in its place, and whether it is the sum that is off
FAULTS = {
    "a lane is left out of sums": (
        "for (int i = 0; i < 16; ++i) sum += real(v, i);",
        "for (int i = 1; i < 16; ++i) sum += real(v, i);",
        True,
    ),
    "exponents are cut off, not rounded": ("std::nearbyint(real(a, i))", "std::trunc(real(a, i))", False),
    "n ln 2 is rounded before it is taken away": (
        "std::fma(-real(a, i), real(b, i), real(c, i))",
        "real(c, i) - real(a, i) * real(b, i)",
        False,
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("fault", FAULTS)
def test_the_bounds_are_so_strict_that_a_faulty_path_fails(fault, compile_faulty, monkeypatch) -> None:
    right, wrong, in_sums = FAULTS[fault]
    monkeypatch.setattr(kernel, "LIBRARY", compile_faulty(right, wrong))
    for algorithm in ALGORITHMS:
        technique = Known(algorithm, "avx512")
        if in_sums:
            with pytest.raises(AssertionError, match="of what rounding explains"):
                require_defined(technique, FAR_APART)
            continue
        found, portable = (
            applied(technique, FAR_APART),
            applied(Softmax(algorithm=algorithm, path="portable"), FAR_APART),
        )
        assert spread(found, portable) > allowed_spread(EXPONENTIAL + 1, EXPONENTIAL + 1)


@pytest.mark.usefixtures("path")
def test_without_a_path_the_best_of_the_processor_is_taken() -> None:
    best = [name for name in PATHS if name in kernel.supported_paths()][-1]
    x = normal(7, 2, 1000)
    assert torch.equal(applied(Softmax(algorithm="two-pass"), x), applied(Softmax(algorithm="two-pass", path=best), x))


def test_torch_s_own_passes_the_gate() -> None:
    require_correct(TorchSoftmax())


def test_a_path_that_the_processor_lacks_is_unavailable(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "supported_paths", lambda: ("portable", "avx2"))
    with pytest.raises(Unavailable, match="has no avx512; it supports portable, avx2"):
        Softmax(algorithm="two-pass", path="avx512")


def test_without_its_library_it_is_unavailable(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "libkernel.so")
    with pytest.raises(Unavailable, match="for want of a compiler"):
        Softmax(algorithm="two-pass")


@pytest.mark.parametrize(("name", "value"), [("algorithm", "one-pass"), ("path", "neon")])
def test_a_name_that_is_not_known_is_told_with_those_that_are(name, value) -> None:
    with pytest.raises(UsageError, match=f"{name} = '{value}': expected one of .*, "):
        Softmax(**{"algorithm": "two-pass", name: value})
