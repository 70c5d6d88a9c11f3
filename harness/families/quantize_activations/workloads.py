"""The contract ``quantize-activations``: linear layers whose inputs are rounded too; models with outliers for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import torch
from torch import Tensor, nn

from harness.api import CaseContext, OpenCase, Outcome, Phase
from harness.families.quantize_activations.checks import Subject, _check, _inputs_of
from harness.families.quantize_activations.contract import ActivationTechnique
from harness.families.quantize_activations.models import trained_residual
from harness.judge.trained_digits import trained_digits

CALIBRATION: Final = 64
"""Examples that a technique may look at; they are not those of the test."""

OUTLIER_CHANNELS: Final = 3
OUTLIER_FACTOR: Final = 100.0
"""Channels of a hidden layer that are made so many times as large, and the next layer's weights as much smaller."""

BATCH: Final = 64


class Activations:
    """Fulfils `harness.api.Workload`: every linear layer but none else is replaced, and the model tested."""

    def subject(self, seed: int, cache: Path) -> Subject:
        """The model of a seed."""
        raise NotImplementedError

    def prepare(self, context: CaseContext) -> None:
        """Train the model of the seed if the cache lacks it."""
        self.subject(context.seed, context.cache)

    def evaluate(self, technique: ActivationTechnique, context: CaseContext) -> Outcome:
        """Accuracy and error of the logits, and the kurtosis of what had to be rounded."""
        subject = self.subject(context.seed, context.cache)
        _check(technique, subject)
        with torch.no_grad():
            exact = subject.model(subject.inputs)
            seen = _inputs_of(subject, subject.inputs)
            weights = [subject.model.get_parameter(f"{name}.weight") for name in subject.linears]
            found = _replaced(technique, subject)(subject.inputs)
        accuracy, before = (
            100 * int((logits.argmax(1) == subject.labels).sum()) / len(subject.labels) for logits in (found, exact)
        )
        return Outcome(
            metrics={
                "accuracy": accuracy,
                "accuracy_drop": before - accuracy,
                "output_error": float((found - exact).norm() / exact.norm()),
                "activation_kurtosis": _mean([kurtosis(one) for one in seen.values()]),
                "weight_kurtosis": _mean([kurtosis(one) for one in weights]),
            }
        )

    def open(self, technique: ActivationTechnique, context: CaseContext) -> OpenCase:
        """Inference with a batch of 64."""
        subject = self.subject(context.seed, context.cache)
        with context.phase("init"):
            model = _replaced(technique, subject)
        inputs = subject.inputs[:BATCH]

        def infer() -> Tensor:
            with torch.inference_mode():
                found: Tensor = model(inputs)
            return found

        return OpenCase(phases={"infer": Phase(run=infer, samples=len(inputs))})

    def check(self, technique: ActivationTechnique, context: CaseContext) -> None:
        """Without rounding every layer is what it was; with it, it gives the same twice."""
        _check(technique, self.subject(context.seed, context.cache))


class OutlierChannels(Activations):
    """The digits' perceptron with a few hidden channels a hundred times as large, which changes nothing it computes."""

    def subject(self, seed: int, cache: Path) -> Subject:
        """The trained perceptron, rescaled."""
        trained = trained_digits(seed, cache)
        for name, following in zip(trained.linears, trained.linears[1:], strict=False):
            enlarge(trained.model.get_submodule(name), trained.model.get_submodule(following), seed)
        return Subject(
            model=trained.model,
            linears=trained.linears,
            calibration=trained.inputs[:CALIBRATION],
            inputs=trained.inputs[CALIBRATION:],
            labels=trained.labels[CALIBRATION:],
        )


class ResidualActivations(Activations):
    """A residual network for all ten digits, trained the way that ``recipe`` says."""

    recipe: ClassVar[str]

    def subject(self, seed: int, cache: Path) -> Subject:
        """The trained network."""
        model, data = trained_residual(seed, cache, self.recipe)
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        return Subject(
            model=model,
            linears=names,
            calibration=data.inputs[:CALIBRATION],
            inputs=data.inputs[CALIBRATION:],
            labels=data.labels[CALIBRATION:],
        )


class ResidualAdam(ResidualActivations):
    """AdamW, and norms with a gain for every channel: what is usual."""

    recipe = "adam"


class ResidualMuon(ResidualActivations):
    """Muon, and norms with one gain for all channels: what is to keep outliers away (arXiv:2506.19697)."""

    recipe = "muon"


def enlarge(first: nn.Module, second: nn.Module, seed: int) -> None:
    """Make some outputs of a linear layer larger, and the weights that read them as much smaller, in place.

    ReLU between the two lets positive factors through.
    """
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    channels = torch.randperm(first.out_features, generator=torch.Generator().manual_seed(seed))[:OUTLIER_CHANNELS]
    first.weight.data[channels] *= OUTLIER_FACTOR
    first.bias.data[channels] *= OUTLIER_FACTOR
    second.weight.data[:, channels] /= OUTLIER_FACTOR


def kurtosis(values: Tensor) -> float:
    """The fourth moment over the square of the second, about the mean: 3 for normal values, more with outliers."""
    centred = values.detach().double().flatten()
    centred = centred - centred.mean()
    return float(centred.pow(4).mean() / centred.square().mean().square())


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _replaced(technique: ActivationTechnique, subject: Subject) -> nn.Module:
    """The model with its linear layers replaced, calibrated on what the original saw."""
    seen = _inputs_of(subject, subject.calibration)
    model = copy.deepcopy(subject.model)
    for name in subject.linears:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, technique.layer(linear, seen[name]))
    return model


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import Workload

    _FULFILS: tuple[type[Workload], ...] = (OutlierChannels, ResidualAdam, ResidualMuon)
