"""The base class of this plugin's techniques, and checks of parameters and modules."""

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
    """The base class of techniques: plain training, until a method is overridden; fulfils `RegularizeTechnique`."""

    mean_preserving: bool = True
    validates: bool = False

    def __init__(self) -> None:
        self._acted = False
        self._curves: dict[str, list[float]] = {}

    @property
    def acted(self) -> bool:
        """Whether the technique has had an effect yet."""
        return self._acted

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """Learned or counted values by name, a list each."""
        return self._curves

    def neutral(self) -> RegularizeTechnique | None:
        """Return None: no setting of the technique is plain training."""
        return None

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:  # noqa: ARG002
        """Return the model unchanged."""
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return one group of all parameters that train, without weight decay."""
        return all_parameters(model, lr)

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch unchanged."""
        return inputs, targets

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the mean cross-entropy of one forward pass, in nats."""
        return cross_entropy(model, inputs, targets, forward)

    def before_update(self, model: nn.Module, step: int) -> None:
        """Leave the gradients unchanged."""

    def after_update(self, model: nn.Module, step: int) -> None:
        """Leave the weights unchanged."""

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:  # noqa: ARG002
        """Return False: training never ends early."""
        return False

    def finish(self, model: nn.Module) -> None:
        """Leave the trained model unchanged."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        """Return the log-probabilities of one forward pass."""
        return predict_once(model, inputs, forward)


def drop_rate(name: str, value: float) -> float:
    """Return ``value`` if it is a drop rate in [0, 1). Raises UsageError otherwise."""
    return number(name, value, least=0, below=1)


def limit(name: str, value: float, *, least: float = -math.inf) -> float:
    """Return ``value`` if it is infinity (no limit) or a number of at least ``least``.

    Raises UsageError otherwise.
    """
    return value if value == math.inf else number(name, value, least=least)


def named_linears(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    """Return the linear modules of these dotted names, by name.

    Raises NotApplicable where a name is that of another kind of module, or where there are no names.
    """
    modules: dict[str, nn.Linear] = {}
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Linear):
            raise NotApplicable(f"{name} is a {type(module).__name__}, not a Linear")
        modules[name] = module
    if not modules:
        raise NotApplicable("the model has no linear layer to act on")
    return modules


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Return what penalties act on: all trained matrices and filters, without biases and gains of norms."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim >= 2]
