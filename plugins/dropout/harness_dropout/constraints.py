"""Rivals of dropout that bound weights, normalise activations, or stop training early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import NotApplicable, whole_number
from harness.families.regularize.contract import RegularizeTask, RegularizeTechnique
from harness_dropout.activations import Dropout
from harness_dropout.base import Regularizer, limit
from harness_dropout.noise import Layered


class NormBound:
    """Scales the incoming weights of every unit down to a Euclidean norm of at most ``bound``; counts how often."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.clips = 0
        self.per_epoch: list[float] = []
        self._weights: list[nn.Parameter] = []
        self._since: Tensor | None = None
        self._epoch = 1

    def attach(self, model: nn.Module, task: RegularizeTask) -> None:
        """Collect the weights of all layers but embeddings; raises NotApplicable where there are none."""
        self._epoch = math.ceil(task.steps / task.epochs)
        for module in model.modules():
            if not isinstance(module, nn.Embedding):
                self._weights += [parameter for parameter in module.parameters(recurse=False) if parameter.ndim >= 2]
        if not self._weights:
            raise NotApplicable("the model has no weights to bound")

    def clip(self, step: int) -> None:
        """Project the weights after a step, and count the units clipped by epoch."""
        with torch.no_grad():
            for weight in self._weights:
                norms = weight.flatten(1).norm(dim=1)
                over = (norms > self.bound).sum()
                self._since = over if self._since is None else self._since + over
                shrink = (self.bound / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1)
                weight.mul_(shrink.view(-1, *[1] * (weight.ndim - 1)))
        if (step + 1) % self._epoch == 0 and self._since is not None:
            self.per_epoch.append(float(self._since))
            self.clips += int(self._since)
            self._since = None


class MaxNorm(Regularizer):
    """Max-norm (Srebro & Shraibman 2005, COLT): a unit's incoming weights have a norm of at most ``bound``."""

    def __init__(self, bound: float = 1.0) -> None:
        super().__init__()
        self.bound = limit("bound", bound, least=0)
        self._norms = NormBound(bound)

    @property
    def acted(self) -> bool:
        """Whether a unit's norm was clipped at least once."""
        return self._norms.clips > 0

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """Numbers of clipped units, by epoch."""
        return {"clips": self._norms.per_epoch}

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique without a bound."""
        return type(self)(bound=math.inf)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Collect the weights."""
        self._norms.attach(model, task)
        return model

    def after_update(self, model: nn.Module, step: int) -> None:  # noqa: ARG002
        """Clip the norms."""
        self._norms.clip(step)


class DropoutMaxNorm(Dropout):
    """Dropout with max-norm (Srivastava 2014, section 5.1), the combination with the paper's best results."""

    def __init__(self, rate: float = 0.5, bound: float = 1.0, input_ratio: float = 0.4) -> None:
        super().__init__(rate, input_ratio)
        self.bound = limit("bound", bound, least=0)
        self._norms = NormBound(bound)

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """Numbers of clipped units, by epoch."""
        return {"clips": self._norms.per_epoch}

    def neutral(self) -> RegularizeTechnique | None:
        """Return the technique at rate 0 and without a bound."""
        return type(self)(rate=0.0, bound=math.inf)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Fill the slots and collect the weights."""
        self._norms.attach(model, task)
        return super().attach(model, task)

    def after_update(self, model: nn.Module, step: int) -> None:  # noqa: ARG002
        """Clip the norms."""
        self._norms.clip(step)


class _AnyBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that accepts feature maps too, as torch's function does."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  torch's name
        """Accept any shape ``(batch, width, ...)``."""


class GhostNorm(nn.Module):
    """Batch normalisation over ``size`` examples at a time; with running statistics in evaluation."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.norm = _AnyBatchNorm(width)
        self.size = size
        self.acted = False

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised ``x``: ``(batch, ..., units)``, or maps ``(batch, units, height, width)``."""
        last = x.ndim == 3
        turned = x.transpose(1, 2) if last else x
        train = self.training and len(x) > 1
        ghosts = turned.tensor_split(max(1, len(x) // self.size)) if train else (turned,)
        self.norm.train(train)
        done = [self.norm(ghost) for ghost in ghosts]
        self.acted = self.acted or train
        out = torch.cat(done) if len(done) > 1 else done[0]
        return out.transpose(1, 2) if last else out


class GhostBatchNorm(Layered):
    """Ghost batch normalisation (Hoffer 2017, arXiv:1705.08741), between each hidden layer and its activation."""

    mean_preserving = False

    def __init__(self, size: int = 10) -> None:
        super().__init__()
        self.size = whole_number("size", size, least=2)

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        """Put a norm into each slot before an activation."""
        widths = preactivation_widths(model, task.preactivations)
        if not widths:
            raise NotApplicable("the model has no slots before activations")
        for name, width in widths.items():
            self.put(model, name, GhostNorm(width, self.size))
        return model


def preactivation_widths(model: nn.Module, slots: Sequence[str]) -> dict[str, int]:
    """Return the width of each slot: the number of outputs of the last layer registered before the slot."""
    widths: dict[str, int] = {}
    width: int | None = None
    for name, module in model.named_modules():
        if name in slots and width is not None:
            widths[name] = width
        width = getattr(module, "out_features", getattr(module, "out_channels", width))
    return widths


class EarlyStopping(Regularizer):
    """Early stopping (Prechelt 1998): stops ``patience`` epochs after the best epoch, and restores the best."""

    validates = True

    def __init__(self, patience: int = 4) -> None:
        super().__init__()
        self.patience = whole_number("patience", patience)
        self._best = math.inf
        self._best_epoch = -1
        self._state: dict[str, Any] = {}

    @property
    def acted(self) -> bool:
        """Whether the restored model differs from the last one."""
        return self._acted

    @property
    def curves(self) -> Mapping[str, Sequence[float]]:
        """The epoch (from 0) whose weights are restored."""
        return {"best_epoch": [float(self._best_epoch)]} if self._state else {}

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:
        """Keep the weights of the best epoch; return whether that epoch is ``patience`` epochs ago."""
        if validation_loss < self._best:
            self._best, self._best_epoch = validation_loss, epoch
            self._state = {name: value.clone() for name, value in model.state_dict().items()}
        self._acted = epoch != self._best_epoch
        return epoch - self._best_epoch >= self.patience

    def finish(self, model: nn.Module) -> None:
        """Restore the best weights."""
        if self._state:
            model.load_state_dict(self._state)
