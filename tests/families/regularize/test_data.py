"""Data of regularisers: nothing in two parts, labels flipped as said, contents identified by hash."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.families.regularize.data import Examples, divided, flipped, standardised
from harness.families.regularize.settings import Settings
from harness.families.regularize.workloads.text import (
    BUCKETS,
    CONTEXT,
    PACKAGES,
    PREDICTED,
    PydocTopics,
    bag,
    docstrings,
)
from harness.judge.datasets import Dataset, cached, releases

SETTINGS = Settings(
    epochs=1, batch_size=10, lr=0.1, train_examples=3 * PREDICTED, validation_examples=2 * PREDICTED, flipped=0.0
)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(count=st.integers(1, 200), classes=st.integers(2, 12), share=st.floats(0, 0.99), seed=st.integers(0, 2**31))
def test_the_share_of_labels_is_flipped_each_to_another_class(
    count: int, classes: int, share: float, seed: int
) -> None:
    targets = torch.randint(0, classes, (count,), generator=draw(seed))
    wrong = flipped(targets, share, classes, draw(seed + 1))
    assert int((wrong != targets).sum()) == round(share * count)
    assert 0 <= int(wrong.min()) <= int(wrong.max()) < classes
    assert torch.equal(wrong, flipped(targets, share, classes, draw(seed + 1)))


def test_every_wrong_class_is_as_likely_as_every_other() -> None:
    wrong = flipped(torch.zeros(30_000, dtype=torch.int64), 0.999, 4, draw(0))
    counts = torch.bincount(wrong, minlength=4)[1:]
    assert (counts - counts.float().mean()).abs().max() < 4 * 10_000**0.5


@given(train=st.integers(1, 40), validation=st.integers(1, 40), seed=st.integers(0, 100))
def test_no_example_is_in_two_parts(train: int, validation: int, seed: int) -> None:
    everything = Examples(inputs=torch.arange(100.0)[:, None], targets=torch.arange(100))
    parts = divided(everything, draw(seed), train=train, validation=validation)
    ids = torch.cat([parts.train.targets, parts.validation.targets, parts.test.targets])
    assert (len(parts.train), len(parts.validation)) == (train, validation)
    assert sorted(ids.tolist()) == list(range(100))


def test_features_are_standardised_by_the_training_examples_alone() -> None:
    inputs = torch.randn(60, 3, generator=draw(0)) * torch.tensor([5.0, 0.0, 1.0]) + 7
    parts = divided(Examples(inputs=inputs, targets=torch.arange(60)), draw(1), train=20, validation=20)
    found = standardised(parts)
    mean, deviation = parts.train.inputs.double().mean(0), parts.train.inputs.double().std(0, correction=0)
    deviation[1] = 1
    for name in ("train", "validation", "test"):
        expected = (getattr(parts, name).inputs.double() - mean) / deviation
        torch.testing.assert_close(getattr(found, name).inputs.double(), expected, atol=1e-5, rtol=1e-5)


def test_the_hash_is_of_the_content() -> None:
    data = Dataset(
        inputs=torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8), targets=torch.tensor([7], dtype=torch.uint8)
    )
    assert data.sha256 == hashlib.sha256(bytes([1, 2, 3, 4, 7])).hexdigest()


def read_toy() -> Dataset:
    return Dataset(inputs=torch.arange(4), targets=torch.arange(2))


def test_data_is_read_once_for_each_release_of_its_library(tmp_path: Path) -> None:
    first = cached(tmp_path, "toy", read_toy, {"lib": "1"})
    (file,) = tmp_path.rglob("*.safetensors")
    written = file.stat().st_mtime_ns
    again = cached(tmp_path, "toy", read_toy, {"lib": "1"})
    assert first.sha256 == again.sha256 == read_toy().sha256
    assert file.stat().st_mtime_ns == written
    cached(tmp_path, "toy", read_toy, {"lib": "2"})
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_releases_name_the_interpreter_by_its_version() -> None:
    import platform

    import sklearn

    assert releases("python", "scikit-learn") == {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
    }


@given(seed=st.integers(0, 1000))
def test_windows_of_different_parts_share_no_character(seed: int) -> None:
    count = 20 * (PREDICTED + CONTEXT)
    text = Dataset(inputs=torch.arange(count), targets=torch.arange(1, count + 1))
    parts = PydocTopics().parts(text, SETTINGS, draw(seed))
    seen = [set(part.inputs.flatten().tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [1500, 1000, 1000]
    for part in (parts.train, parts.validation, parts.test):
        assert torch.equal(part.inputs, part.inputs[:, :1] + torch.arange(CONTEXT))
        assert torch.equal(part.targets, part.inputs[:, -1] + 1)


def test_a_text_that_is_too_short_is_an_error_with_both_settings() -> None:
    with pytest.raises(UsageError, match="train_examples 1500 and twice validation_examples 1000"):
        PydocTopics().parts(read_toy(), SETTINGS, draw(0))


def test_docstrings_are_those_of_the_modules_without_their_tests(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    long = "this text has more than twenty characters"
    (tmp_path / "a.py").write_text(f'"""{long}"""\nclass A:\n    "short"\n    def b(self):\n        "{long} too"\n')
    (tmp_path / "tests/c.py").write_text(f'"""{long}, but is a test"""')
    assert list(docstrings(tmp_path)) == [long, f"{long} too"]
    ast.parse((tmp_path / "a.py").read_text())


def test_a_bag_counts_words_and_pairs_and_leaves_out_what_would_tell() -> None:
    assert bag("One two, ONE two").sum() == 4 + 3
    assert bag("one two").bool().logical_and(bag("Two one.")).sum() == 2
    assert torch.equal(bag(f"read {PACKAGES[0]} data"), bag("read data"))
    assert bag("x " * 300).max() == 255
    assert bag("").shape == (BUCKETS,)
