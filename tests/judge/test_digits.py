"""The data: what is in it, and who gets which part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.api import HarnessError, UsageError
from harness.judge import digits as datasets
from harness.judge.datasets import split
from harness.judge.digits import read_digits, scaled
from harness.judge.seeds import generator


def test_the_digits_are_all_there() -> None:
    digits = read_digits()
    assert digits.pixels.shape == (1797, 8, 8)
    assert torch.bincount(digits.labels.long()).min() > 170


def test_pixels_are_scaled_to_plus_and_minus_one() -> None:
    images = scaled(read_digits().pixels)
    assert (images.min(), images.max()) == (-1, 1)
    assert images.dtype == torch.float32


def test_selected_digits_are_those_asked_for() -> None:
    some = read_digits().select(5, 9)
    assert set(some.labels.tolist()) == {5, 6, 7, 8, 9}
    assert len(some.pixels) == len(some.labels)


def test_other_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(HarnessError, match="expected 000000000000"):
        read_digits()


@given(st.integers(3, 500), st.integers(0, 2**32), st.data())
def test_every_image_is_in_exactly_one_part(count: int, seed: int, data: st.DataObject) -> None:
    train = data.draw(st.integers(1, count - 2))
    validation = data.draw(st.integers(1, count - train - 1))
    parts = split(count, generator(seed, "split"), train=train, validation=validation)
    assert (len(parts.train), len(parts.validation)) == (train, validation)
    assert sorted(torch.cat([parts.train, parts.validation, parts.test]).tolist()) == list(range(count))


def test_the_seed_settles_the_split() -> None:
    first, again, other = (split(896, generator(seed, "split"), train=300, validation=100) for seed in (1, 1, 2))
    assert torch.equal(first.test, again.test)
    assert not torch.equal(first.test, other.test)


def test_a_split_without_a_test_is_refused() -> None:
    with pytest.raises(UsageError, match="has 896 images"):
        split(896, generator(0, "split"), train=800, validation=96)
