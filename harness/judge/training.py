"""How the judge trains: the settings, where randomness comes from, the order of batches, the optimiser's loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional


def batch_order(count: int, draw: torch.Generator, *, steps: int, batch_size: int) -> Tensor:
    """Indices below ``count``, int64 ``(steps, batch_size)``: one random permutation after the other."""
    needed = steps * batch_size
    epochs = [torch.randperm(count, generator=draw) for _ in range(math.ceil(needed / count))]
    return torch.cat(epochs)[:needed].view(steps, batch_size)


def cross_entropy(forward: Callable[[nn.Module, Batch], Tensor]) -> Callable[[nn.Module, Batch], Tensor]:
    """The mean cross-entropy, in nats, of a batch's logits and its ``labels``."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(forward(model, batch), batch["labels"])

    return loss


def adamw(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW in one fused kernel, which is two milliseconds a step faster than a loop on a small model."""
    return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    max_grad_norm: float,
) -> Tensor:
    """One full optimiser step; returns the loss before it, a scalar that still has to be read."""
    optimizer.zero_grad(set_to_none=True)
    value = loss(model, batch)
    value.backward()  # type: ignore[no-untyped-call]
    if math.isfinite(max_grad_norm):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    return value.detach()


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    steps: int,
    loss: Callable[[nn.Module, Batch], Tensor],
    max_grad_norm: float = math.inf,
) -> list[float]:
    """Train over the batches, each group's rate rising to its own and falling on one cosine cycle of ``steps``.

    Returns the loss of every step, in nats. Raises FloatingPointError at the first that is not finite.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, cycle_momentum=False)
    losses: list[float] = []
    model.train()
    for number, batch in enumerate(batches, start=1):
        value = step(model, optimizer, batch, loss=loss, max_grad_norm=max_grad_norm).item()
        if not math.isfinite(value):
            raise FloatingPointError(f"loss is {value} at step {number}")
        losses.append(value)
        cycle.step()
    return losses


BatchT = TypeVar("BatchT")

Batch = Mapping[str, Tensor]
"""Keyword arguments of the model's forward, plus ``labels`` (int64, shape ``(batch,)``)."""


class RepeatedStep(Generic[BatchT]):
    """A training step on one batch that is timed: each call steps the model, in training mode and at rates of zero.

    Every kernel runs as it would, but the thousandth step is like the first: nothing diverges, and no gradient
    shrinks to denormal numbers, which are slow. ``step`` is told the batch and the number of the call, from 0.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: BatchT,
        step: Callable[[BatchT, int], object],
    ) -> None:
        self.model = model.train()
        self.optimizer = optimizer
        self.batch = batch
        self._step = step
        self._number = 0
        for group in optimizer.param_groups:
            group["lr"] = 0.0

    def __call__(self) -> None:
        """Step once."""
        if not self.model.training:
            self.model.train()
        self._step(self.batch, self._number)
        self._number += 1
