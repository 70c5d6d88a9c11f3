"""Workload ``digits-mlp``: a multilayer perceptron that knows the digits 0-4 learns 5-9. The fast one: torch only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.families.finetune.digits import DigitsWorkload
from harness.judge.architectures import DigitsPerceptron


class DigitsMlp(DigitsPerceptron, DigitsWorkload):
    """The perceptron 64-128-128-128 with ReLU, and a head of five classes."""


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (DigitsMlp,)
    _STACKS: tuple[type[StackingWorkload], ...] = (DigitsMlp,)
