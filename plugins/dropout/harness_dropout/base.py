"""What every technique of this plugin shares: the contract's methods, doing nothing until one is overridden."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from harness.api import NotApplicable, number
from harness.families.regularize.contract import (
    Forward,
    RegularizeTask,
    RegularizeTechnique,
    all_parameters,
    cross_entropy,
    predict_once,
)


class Regularizer:
    """The common part of `harness.families.regularize.contract.RegularizeTechnique`: as it stands, plain training."""

    mean_preserving: bool = True
    validates: bool = False

    def __init__(self) -> None:
        self._acted = False
        self._curves: dict[str, list[float]] = {}

    @property
    def acted(self) -> bool:
        """Whether anything it does has had an effect."""
        return self._acted

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """What it learned or counted, by name."""
        return self._curves

    def neutral(self) -> RegularizeTechnique | None:
        """None: no setting of the technique is plain training."""
        return None

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:  # noqa: ARG002
        """Return the model as it came."""
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """One group of all that trains, without weight decay."""
        return all_parameters(model, lr)

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The batch as it came."""
        return inputs, targets

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Mean cross-entropy of one forward, in nats."""
        return cross_entropy(model, inputs, targets, forward)

    def before_update(self, model: nn.Module, step: int) -> None:
        """Leave the gradients alone."""

    def after_update(self, model: nn.Module, step: int) -> None:
        """Leave the weights alone."""

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:  # noqa: ARG002
        """Never end the training."""
        return False

    def finish(self, model: nn.Module) -> None:
        """Leave the trained model as it is."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        """Log-probabilities of one forward."""
        return predict_once(model, inputs, forward)


def drop_rate(name: str, value: float) -> float:
    """Return ``value`` if it is a probability of dropping, below 1; raise UsageError otherwise."""
    return number(name, value, least=0, below=1)


def limit(name: str, value: float, *, least: float = -math.inf) -> float:
    """Return ``value`` if it is infinity, which limits nothing, or a number of at least ``least``.

    Raises UsageError otherwise.
    """
    return value if value == math.inf else number(name, value, least=least)


def named_linears(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear modules of these dotted names; raises NotApplicable where there are none."""
    found: dict[str, nn.Linear] = {}
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Linear):
            raise NotApplicable(f"{name} is a {type(module).__name__}, not a Linear")
        found[name] = module
    if not found:
        raise NotApplicable("the model has no linear layer to act on")
    return found


def weights(model: nn.Module) -> list[nn.Parameter]:
    """What penalties act on: all trained matrices and filters; biases and gains of norms are left out."""
    return [one for one in model.parameters() if one.requires_grad and one.ndim >= 2]
