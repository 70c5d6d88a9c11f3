"""Recordings of vowels: what is read from sktime's files, and how recordings of any length become alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.families.regularize.workloads.sequences import STEPS, read_recordings

HEADER = ["#a comment", "@problemName JapaneseVowels", "@data"]


def line(features: np.ndarray, label: int) -> str:
    return ":".join([*(",".join(f"{value:.6f}" for value in row) for row in features), str(label)])


@given(st.lists(st.integers(2, 29), min_size=1, max_size=5), st.integers(0, 2**31))
def test_every_recording_is_interpolated_in_time_feature_by_feature(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    recordings = [rng.normal(size=(12, length)).round(6) for length in lengths]
    labels = [int(label) for label in rng.integers(1, 10, len(lengths))]
    text = [*HEADER, *(line(*pair) for pair in zip(recordings, labels, strict=True)), ""]
    found = read_recordings(text)
    assert found.inputs.shape == (len(lengths), STEPS, 12)
    assert found.targets.tolist() == [label - 1 for label in labels]
    for features, read in zip(recordings, found.inputs.numpy(), strict=True):
        at = np.linspace(0, 1, STEPS)
        expected = [np.interp(at, np.linspace(0, 1, features.shape[1]), row) for row in features]
        np.testing.assert_allclose(read.T, expected, atol=2e-5)


def test_a_second_file_with_its_own_header_is_read_on() -> None:
    one = line(np.zeros((12, 7)), 1)
    found = read_recordings([*HEADER, one, *HEADER, one.removesuffix("1") + "9"])
    assert found.targets.tolist() == [0, 8]
    assert torch.equal(found.inputs, torch.zeros(2, STEPS, 12))


def test_a_line_that_is_no_recording_is_an_error_that_quotes_it() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        read_recordings([*HEADER, "nonsense:1"])
