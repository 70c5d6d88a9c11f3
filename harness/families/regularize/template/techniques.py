"""A technique of the contract ``regularize``, and the plain one that it is compared with."""

from __future__ import annotations

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


class Plain:
    """Training without a technique."""

    mean_preserving: bool = True
    validates: bool = False

    @property
    def acted(self) -> bool:
        """Whether the technique has had an effect."""
        return False

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """Learned or counted values by name, a list each."""
        return {}

    def neutral(self) -> RegularizeTechnique | None:
        """Return a technique without an effect."""
        return Plain()

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


class Dropout(Plain):
    """Sets each hidden activation to zero with a chance, and scales the others up."""

    def __init__(self, rate: float = 0.3) -> None:
        self.rate = number("rate", rate, least=0, below=1)

    @property
    def acted(self) -> bool:
        """Whether anything was dropped."""
        return self.rate > 0

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0."""
        return Dropout(0.0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a dropout after each hidden activation. Raises NotApplicable where there is none."""
        if not task.hidden:
            raise NotApplicable("the model has no hidden activations")
        for name in task.hidden:
            model.set_submodule(name, nn.Dropout(self.rate))
        return model
