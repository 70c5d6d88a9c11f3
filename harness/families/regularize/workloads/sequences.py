"""Workload ``vowels-rnn`` of ``regularize``: who speaks, from recordings of two vowels read by a recurrent network."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional

from harness.families.regularize.data import Examples, Parts, standardised
from harness.families.regularize.models import SequenceClassifier, Slotted
from harness.families.regularize.protocol import RegularizeWorkload
from harness.families.regularize.settings import Settings
from harness.judge.datasets import Dataset, releases

STEPS: Final = 16
"""Time steps that every recording, of 7 to 29, is brought to."""

FEATURES: Final = 12


class Vowels(RegularizeWorkload):
    """The 640 recordings of nine speakers that sktime ships (UCI, Kudo et al. 1999), and an LSTM of width 64."""

    name = "vowels"
    classes = 9

    def read(self) -> Dataset:
        """Return the recordings of both of sktime's files; the package itself is not imported."""
        found = importlib.util.find_spec("sktime")
        assert found is not None
        assert found.submodule_search_locations is not None
        folder = Path(next(iter(found.submodule_search_locations))) / "datasets" / "data" / "JapaneseVowels"
        parts = [folder / f"JapaneseVowels_{part}.ts" for part in ("TRAIN", "TEST")]
        return read_recordings(line for part in parts for line in part.read_text(encoding="utf-8").splitlines())

    def libraries(self) -> Mapping[str, str]:
        """Return the release of sktime."""
        return releases("sktime")

    def examples(self, dataset: Dataset) -> Examples:
        """Return the recordings unchanged."""
        return Examples(inputs=dataset.inputs, targets=dataset.targets.long())

    def parts(self, dataset: Dataset, settings: Settings, draw: torch.Generator) -> Parts:
        """Return a random split, standardised by the training examples."""
        return standardised(super().parts(dataset, settings, draw))

    def build(self) -> Slotted:
        """Return an LSTM of one layer."""
        return SequenceClassifier(FEATURES, 64, self.classes)


def read_recordings(lines: Iterable[str]) -> Dataset:
    """Return recordings in the ts format, one a line: features split by colons, then the class, counted from 1.

    Inputs are float32 ``(n, 16, 12)``, each recording interpolated linearly in time, its first and last step kept.
    """
    recordings = [line.strip().split(":") for line in _data(lines)]
    inputs = torch.stack([_stretched([_numbers(feature) for feature in features]) for *features, _ in recordings])
    return Dataset(inputs=inputs, targets=torch.tensor([int(label) - 1 for *_, label in recordings], dtype=torch.uint8))


def _data(lines: Iterable[str]) -> Iterator[str]:
    """Return the lines of data, without comments and headers."""
    return (line for line in lines if line.strip() and not line.startswith(("#", "@")))


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _stretched(features: list[list[float]]) -> Tensor:
    recording = torch.tensor(features).unsqueeze(0)
    return functional.interpolate(recording, STEPS, mode="linear", align_corners=True)[0].T


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Vowels,)
