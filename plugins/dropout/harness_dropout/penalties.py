"""Rivals of dropout that penalise weights, outputs or confidence, or disturb the gradient."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import NotApplicable, number
from harness.families.regularize.contract import Forward, RegularizeTask, RegularizeTechnique, all_parameters
from harness_dropout.base import Regularizer, weights


class _Strength(Regularizer):
    """Base class: a strength, at 0 of which the technique has no effect."""

    def __init__(self, strength: float, high: float = math.inf) -> None:
        super().__init__()
        self.strength = number("strength", strength, least=0, below=high)

    @property
    def acted(self) -> bool:
        """Whether the technique was applied at a strength above 0."""
        return self._acted

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at strength 0."""
        return type(self)(0.0)


class WeightDecay(_Strength):
    """Decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101): w shrinks by lr strength w each step.

    Biases and the gains of norms are excluded.
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return two groups: weights with decay, all other parameters without."""
        if not self.strength:
            return all_parameters(model, lr)
        decayed = weights(model)
        self._acted = bool(decayed)
        own = {id(weight) for weight in decayed}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        groups = [{"params": decayed, "lr": lr, "weight_decay": self.strength}, {"params": rest, "lr": lr}]
        return [group for group in groups if group["params"]]


class L1(_Strength):
    """The L1 penalty (Tibshirani 1996, JRSS B 58): strength times the sum of the absolute values of all weights."""

    def __init__(self, strength: float = 1e-3) -> None:
        super().__init__(strength)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the cross-entropy plus the penalty."""
        entropy = super().loss(model, inputs, targets, forward)
        if not self.strength:
            return entropy
        self._acted = True
        return entropy + self.strength * torch.stack([weight.abs().sum() for weight in weights(model)]).sum()


class LabelSmoothing(_Strength):
    """Label smoothing (Szegedy 2016, arXiv:1512.00567): (1 - strength) of the target plus strength of the uniform."""

    def __init__(self, strength: float = 0.1) -> None:
        super().__init__(strength, 1.0)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the cross-entropy with smoothed targets."""
        self._acted = self.strength > 0
        return functional.cross_entropy(forward(model, inputs), targets, label_smoothing=self.strength)


class ConfidencePenalty(_Strength):
    """The confidence penalty (Pereyra 2017, arXiv:1701.06548): cross-entropy minus strength times the entropy."""

    def __init__(self, strength: float = 0.3) -> None:
        super().__init__(strength)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the cross-entropy minus ``strength`` times the mean entropy of the predictions, in nats."""
        if not self.strength:
            return super().loss(model, inputs, targets, forward)
        self._acted = True
        logits = forward(model, inputs)
        log_p = logits.log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1).mean()
        return functional.cross_entropy(logits, targets) - self.strength * entropy


class GradientNoise(_Strength):
    """Gradient noise (Neelakantan 2015, arXiv:1511.06807) of variance strength / (1 + t)^0.55 at step t."""

    decay: Final = 0.55

    def __init__(self, strength: float = 0.01) -> None:
        super().__init__(strength)
        self._draw = torch.Generator()

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Keep the task's generator."""
        self._draw = task.generator
        return model

    def before_update(self, model: nn.Module, step: int) -> None:
        """Add noise to every gradient."""
        if not self.strength:
            return
        deviation = math.sqrt(self.strength / (1 + step) ** self.decay)
        for parameter in model.parameters():
            if parameter.grad is not None:
                noise = torch.randn(parameter.shape, generator=self._draw).to(parameter.grad)
                parameter.grad.add_(noise, alpha=deviation)
                self._acted = True


class Mixup(_Strength):
    """Mixup (Zhang 2018, arXiv:1710.09412): convex combinations of pairs, weighted Beta(strength, strength)."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._classes = 0
        self._draw = torch.Generator()
        self._beta = np.random.default_rng(0)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Keep the task's generator, and seed NumPy's from it, as torch cannot draw Beta from a generator."""
        self._classes = task.classes
        self._draw = task.generator
        self._beta = np.random.default_rng(int(torch.randint(2**62, (), generator=task.generator)))
        return model

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return each example mixed with another of the batch, all by the same weight, and targets as probabilities.

        Raises NotApplicable where inputs are tokens, or sequences with a class for each position.
        """
        if not inputs.is_floating_point():
            raise NotApplicable("the inputs are tokens, which cannot be mixed")
        if not self.strength:
            return inputs, targets
        if len(inputs) != len(targets):
            raise NotApplicable("the inputs are sequences with a class for each position")
        self._acted = True
        share = float(self._beta.beta(self.strength, self.strength))
        partner = torch.randperm(len(inputs), generator=self._draw).to(inputs.device)
        mixed = inputs.lerp(inputs[partner], 1 - share)
        classes = functional.one_hot(targets, self._classes).to(inputs.dtype)
        return mixed, classes.lerp(classes[partner], 1 - share)
