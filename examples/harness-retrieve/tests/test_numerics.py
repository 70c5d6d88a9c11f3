"""The numbers agree with independent ones: NumPy in float64, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_retrieve.checks import allowed_error, distances_of, held_bytes, nearest
from harness_retrieve.data import hashed
from harness_retrieve.techniques import EightBit, Exact, InvertedLists, RandomProjections, squared_distances
from harness_retrieve.workloads import quality
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from harness.api import UsageError

DRAWN = st.tuples(st.integers(10, 80), st.integers(1, 24), st.integers(1, 9), st.integers(0, 2**31 - 1))


def drawn(shape: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    n, d, q, seed = shape
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw), torch.randn(q, d, generator=draw)


def built(technique, vectors):
    technique.build(vectors, torch.Generator().manual_seed(1))
    return technique


@settings(max_examples=30)
@given(DRAWN)
def test_the_truth_is_that_of_scikit_learn_and_of_numpy(shape) -> None:
    vectors, queries = drawn(shape)
    found = nearest(vectors, queries, 10).numpy()
    x, y = vectors.double().numpy(), queries.double().numpy()
    by_numpy = np.sort(np.sqrt(((y[:, None] - x[None]) ** 2).sum(2)), axis=1)[:, :10]
    by_sklearn, _ = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(x).kneighbors(y)
    assert found == pytest.approx(by_numpy, rel=1e-12)
    assert found == pytest.approx(by_sklearn, rel=1e-7)  # its squares cancel: the root of float64's 2^-52


@settings(max_examples=30)
@given(DRAWN)
def test_squared_distances_are_within_the_allowed_error(shape) -> None:
    vectors, queries = drawn(shape)
    exact = ((queries.double()[:, None] - vectors.double()[None]) ** 2).sum(2)
    off = (squared_distances(queries, vectors).double() - exact).abs()
    assert (off <= allowed_error(vectors, queries)).all()


@settings(max_examples=20)
@given(DRAWN)
def test_all_lists_probed_are_brute_force(shape) -> None:
    vectors, queries = drawn(shape)
    found = built(InvertedLists(lists=6, probes=6), vectors).search(queries, 10)
    off = distances_of(vectors, queries, found) ** 2 - nearest(vectors, queries, 10) ** 2
    assert (off.abs() <= 2 * allowed_error(vectors, queries)).all()


@settings(max_examples=20)
@given(DRAWN, st.integers(1, 6))
def test_probed_lists_hold_what_numpy_finds_in_them(shape, probes) -> None:
    vectors, queries = drawn(shape)
    index = built(InvertedLists(lists=6, probes=probes), vectors)
    owner = squared_distances(vectors, index._centres).argmin(1).numpy()
    ranked = squared_distances(queries, index._centres).argsort(1).numpy()
    for query, lists, found in zip(queries, ranked, index.search(queries, 1).numpy(), strict=True):
        count = next(n for n in range(probes, 7) if np.isin(owner, lists[:n]).any())
        among = np.flatnonzero(np.isin(owner, lists[:count]))
        squares = ((query.double().numpy() - vectors.double().numpy()[among]) ** 2).sum(1)
        chosen = np.flatnonzero(among == found[0])
        assert len(chosen) == 1
        assert squares[chosen[0]] <= squares.min() + 2 * float(allowed_error(vectors, query[None]))


@settings(max_examples=30)
@given(DRAWN)
def test_a_rounded_value_is_off_by_half_a_step_at_most(shape) -> None:
    vectors, _ = drawn(shape)
    index = built(EightBit(), vectors)
    step = (vectors.amax(0) - vectors.amin(0)).double() / 255
    # beyond half a step: the roundings of float32 in scaling (255 steps) and in the sum with the lower bound
    slack = 4 * torch.finfo(torch.float32).eps * (255 * step + vectors.abs().amax(0))
    assert ((index.rounded().double() - vectors.double()).abs() <= step / 2 + slack).all()
    assert index._codes.dtype == torch.uint8


@pytest.mark.parametrize("density", [1.0, 1 / 3, 0.1])
def test_projections_keep_lengths_on_average(density) -> None:
    """The mean squared length is that before, to within 6 standard errors of what was drawn."""
    vector = torch.randn(1, 40, generator=torch.Generator().manual_seed(0))
    squares = []
    for seed in range(400):
        index = RandomProjections(dimensions=16, density=density)
        index.build(vector, torch.Generator().manual_seed(seed))
        squares.append(float(index._projected.square().sum()))
    error = np.std(squares, ddof=1) / math.sqrt(len(squares))
    assert abs(np.mean(squares) - float(vector.square().sum())) < 6 * error


def test_recall_of_brute_force_is_whole_and_equal_vectors_are_all_right() -> None:
    vectors, queries = drawn((60, 8, 5, 0))
    assert quality(built(Exact(), vectors), vectors, queries) == (100, pytest.approx(0, abs=1e-5))
    same = torch.ones(30, 4)
    assert quality(built(Exact(), same), same, queries[:, :4])[0] == 100


def test_bytes_are_those_of_the_tensors() -> None:
    vectors, _ = drawn((64, 16, 1, 0))
    assert built(Exact(), vectors).bytes == 64 * 16 * 4
    assert built(RandomProjections(dimensions=8), vectors).bytes == 4 * (16 * 8 + 64 * 8)
    assert built(EightBit(), vectors).bytes == 64 * 16 + 4 * 2 * 16
    assert built(InvertedLists(lists=5), vectors).bytes == 4 * (64 * 16 + 5 * 16) + 8 * (64 + 5)
    assert held_bytes({"twice": [vectors, vectors.T]}) == 64 * 16 * 4


def test_hashed_bags_have_length_1_and_follow_their_words() -> None:
    from collections import Counter

    bag = Counter(["the", "list", "of", "the", "names"])
    assert float(hashed(bag, 64).double().norm()) == pytest.approx(1, abs=64 * torch.finfo(torch.float32).eps)
    assert torch.equal(hashed(bag, 64), hashed(Counter(dict(reversed(bag.items()))), 64))
    assert not torch.equal(hashed(bag, 64), hashed(Counter(["tuple"]), 64))
    assert not hashed(Counter(), 64).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomProjections(dimensions=0), "dimensions = 0"),
        (lambda: RandomProjections(density=0), "density = 0"),
        (lambda: RandomProjections(density=2), "density = 2"),
        (lambda: InvertedLists(probes=1.5), "probes = 1.5"),
        (lambda: EightBit(trim=0.5), "trim = 0.5"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, words) -> None:
    with pytest.raises(UsageError, match=words):
        make()
