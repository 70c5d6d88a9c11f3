"""The workloads of the contract ``quantize-activations``: models with and without outliers."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import torch
from torch import Tensor, nn

from harness.api import CaseContext, OpenCase, Outcome, Phase
from harness.families.quantize_activations.checks import Subject, inputs_of, require_correct
from harness.families.quantize_activations.contract import ActivationTechnique
from harness.families.quantize_activations.models import trained_residual
from harness.judge.fresh import FreshBatches
from harness.judge.timed import RepeatedPrediction, Untouched
from harness.judge.trained_digits import trained_digits

CALIBRATION: Final = 64
"""Examples that a technique may use for calibration; none is a test example."""

OUTLIER_CHANNELS: Final = 3
OUTLIER_FACTOR: Final = 100.0
"""Hidden channels that are enlarged, and the factor, by which the next layer's weights are divided."""

BATCH: Final = 64


class Activations:
    """A `harness.api.Workload` that replaces every linear layer of a trained model, and tests the model."""

    def subject(self, seed: int, cache: Path) -> Subject:
        """Return the trained model of a seed with its data, from the cache or trained now."""
        raise NotImplementedError

    def prepare(self, context: CaseContext) -> None:
        """Train the model of the seed if the cache lacks it."""
        self.subject(context.seed, context.cache)

    def evaluate(self, technique: ActivationTechnique, context: CaseContext) -> Outcome:
        """Run the gate, then measure accuracy, error of logits and kurtosis. Raises Incorrect where the gate fails."""
        subject = self.subject(context.seed, context.cache)
        require_correct(technique, subject)
        with torch.no_grad():
            exact = subject.model(subject.inputs)
            seen = inputs_of(subject, subject.inputs)
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
                "activation_kurtosis": _mean([kurtosis(values) for values in seen.values()]),
                "weight_kurtosis": _mean([kurtosis(weight) for weight in weights]),
            }
        )

    def open(self, technique: ActivationTechnique, context: CaseContext) -> OpenCase:
        """Prepare the inference of a batch of 64."""
        subject = self.subject(context.seed, context.cache)
        with context.phase("init"):
            model = _replaced(technique, subject)
        untouched = Untouched(model)
        fresh = FreshBatches({"inputs": subject.inputs[:BATCH]})
        infer = RepeatedPrediction(fresh, partial(_outputs, model), lambda batch: _outputs(untouched(), batch))
        return OpenCase(phases={"infer": Phase(run=infer, samples=BATCH, verify=infer.verify, refresh=infer.refresh)})

    def check(self, technique: ActivationTechnique, context: CaseContext) -> None:
        """Run the gate. Raises Incorrect at the first failure."""
        require_correct(technique, self.subject(context.seed, context.cache))


class OutlierChannels(Activations):
    """The digits' perceptron with a few hidden channels a hundred times as large; its function is unchanged."""

    def subject(self, seed: int, cache: Path) -> Subject:
        """Return the trained perceptron, rescaled."""
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
    """A residual network for all ten digits, trained by ``recipe``: "adam" or "muon"."""

    recipe: ClassVar[str]

    def subject(self, seed: int, cache: Path) -> Subject:
        """Return the trained network with its data."""
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
    """The usual training: AdamW, and normalisation layers with a gain for every channel."""

    recipe = "adam"


class ResidualMuon(ResidualActivations):
    """Training that avoids outliers: Muon, and normalisation layers with one gain (arXiv:2506.19697)."""

    recipe = "muon"


def _outputs(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return a model's outputs for a batch, without gradients, as in the gate."""
    with torch.no_grad():
        found: Tensor = model(batch["inputs"])
    return found


def enlarge(first: nn.Module, second: nn.Module, seed: int) -> None:
    """Enlarge some outputs of a linear layer and divide the weights that read them by the same factor, in place.

    The function is unchanged, since ReLU between the two layers commutes with positive factors.
    """
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    channels = torch.randperm(first.out_features, generator=torch.Generator().manual_seed(seed))[:OUTLIER_CHANNELS]
    first.weight.data[channels] *= OUTLIER_FACTOR
    first.bias.data[channels] *= OUTLIER_FACTOR
    second.weight.data[:, channels] /= OUTLIER_FACTOR


def kurtosis(values: Tensor) -> float:
    """Return the fourth central moment over the square of the second: 3 for normal values, more with outliers."""
    centred = values.detach().double().flatten()
    centred = centred - centred.mean()
    return float(centred.pow(4).mean() / centred.square().mean().square())


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _replaced(technique: ActivationTechnique, subject: Subject) -> nn.Module:
    """Return a copy of the model with its linear layers replaced, calibrated on the original's inputs."""
    seen = inputs_of(subject, subject.calibration)
    model = copy.deepcopy(subject.model)
    for name in subject.linears:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, technique.layer(linear, seen[name]))
    return model


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import Workload

    _FULFILS: tuple[type[Workload], ...] = (OutlierChannels, ResidualAdam, ResidualMuon)
