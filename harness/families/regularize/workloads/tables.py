"""Workload ``cancer`` of ``regularize``: thirty measurements of cell nuclei, where little is to be gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from harness.families.regularize.data import Examples, Parts, standardised
from harness.families.regularize.models import Mlp, Slotted
from harness.families.regularize.protocol import RegularizeWorkload
from harness.families.regularize.settings import Settings
from harness.judge.datasets import Dataset, releases


class Cancer(RegularizeWorkload):
    """The 569 cases that scikit-learn ships (UCI, Wolberg et al. 1995), standardised, and an MLP 30-64-64-2."""

    name = "cancer"
    classes = 2

    def read(self) -> Dataset:
        """Return scikit-learn's copy of the data set."""
        from sklearn.datasets import load_breast_cancer

        features, labels = load_breast_cancer(return_X_y=True)
        return Dataset(inputs=torch.from_numpy(features).float(), targets=torch.from_numpy(labels).to(torch.uint8))

    def libraries(self) -> Mapping[str, str]:
        """Return the release of scikit-learn."""
        return releases("scikit-learn")

    def examples(self, dataset: Dataset) -> Examples:
        """Return the measurements unchanged, float32 ``(n, 30)``."""
        return Examples(inputs=dataset.inputs, targets=dataset.targets.long())

    def parts(self, dataset: Dataset, settings: Settings, draw: torch.Generator) -> Parts:
        """Return a random split, standardised by the training examples."""
        return standardised(super().parts(dataset, settings, draw))

    def build(self) -> Slotted:
        """Return a perceptron with two hidden layers."""
        return Mlp([30, 64, 64], self.classes)


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Cancer,)
    _STACKS: tuple[type[StackingWorkload], ...] = (Cancer,)
