"""Training: the order of batches, the loss, the optimiser, its loop, and a step that can be timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional


def batch_order(count: int, draw: torch.Generator, *, steps: int, batch_size: int) -> Tensor:
    """Return indices below ``count``, int64 ``(steps, batch_size)``: consecutive random permutations."""
    needed = steps * batch_size
    epochs = [torch.randperm(count, generator=draw) for _ in range(math.ceil(needed / count))]
    return torch.cat(epochs)[:needed].view(steps, batch_size)


def cross_entropy(forward: Callable[[nn.Module, Batch], Tensor]) -> Callable[[nn.Module, Batch], Tensor]:
    """Return a loss function: the mean cross-entropy in nats of a batch's logits and its ``labels``.

    Logits of sequences, ``(batch, length, classes)``, have a label for each place, and the mean is over all places of
    the batch whose label is not -100.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits, labels = forward(model, batch), batch["labels"]
        if labels.ndim > 1:  # in float32 as transformers does, whatever the model computes in
            logits, labels = logits.flatten(0, -2).float(), labels.flatten()
        return functional.cross_entropy(logits, labels)

    return loss


IGNORED: Final = -100
"""The label of what is not predicted, which torch's cross-entropy leaves out by default."""


@dataclass(frozen=True, kw_only=True)
class MicroBatches:
    """A loss whose gradients are summed over parts of a batch, where the whole takes more memory than there is.

    ``loss`` is a mean over predictions, of which a part has as many as labels that are not `IGNORED`. So the sum over
    parts of at most ``size`` examples is the mean over the whole batch, however the predictions are spread.
    """

    loss: Callable[[nn.Module, Batch], Tensor]
    size: int

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of the whole batch at once."""
        return self.loss(model, batch)

    def backward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Add the gradients of the batch, part by part, and return its loss, a detached scalar."""
        count = len(next(iter(batch.values())))
        starts = range(0, count, self.size)
        parts = [{name: value[start : start + self.size] for name, value in batch.items()} for start in starts]
        weights = [int((part["labels"] != IGNORED).sum()) for part in parts]
        total = sum(weights)
        whole = torch.zeros((), device=next(iter(batch.values())).device)
        for part, weight in zip(parts, weights, strict=True):
            if weight:  # the mean over nothing is not a number
                value = self.loss(model, part) * (weight / total)
                value.backward()  # type: ignore[no-untyped-call]
                whole = whole + value.detach()
        return whole


def in_parts(loss: Callable[[nn.Module, Batch], Tensor], size: int) -> Callable[[nn.Module, Batch], Tensor]:
    """Return a loss whose gradients are computed on at most ``size`` examples at a time; on all where it is 0."""
    return MicroBatches(loss=loss, size=size) if size else loss


def adamw(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with a fused kernel, which saves two milliseconds a step on a small model."""
    return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)


def gradients(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    max_grad_norm: float,
) -> Tensor:
    """Set the gradients of all that trains and return the loss, a detached scalar on the model's device.

    Gradients are clipped to a norm of ``max_grad_norm``, where that is finite.
    """
    optimizer.zero_grad(set_to_none=True)
    if isinstance(loss, MicroBatches):
        value = loss.backward(model, batch)
    else:
        value = loss(model, batch)
        value.backward()  # type: ignore[no-untyped-call]
    if math.isfinite(max_grad_norm):
        nn.utils.clip_grad_norm_(trained(optimizer), max_grad_norm)
    return value.detach()


def trained(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimiser trains."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    max_grad_norm: float,
) -> Tensor:
    """Take one optimiser step and return the loss before it, a detached scalar on the model's device."""
    value = gradients(model, optimizer, batch, loss=loss, max_grad_norm=max_grad_norm)
    optimizer.step()
    return value


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    *,
    steps: int,
    loss: Callable[[nn.Module, Batch], Tensor],
    max_grad_norm: float = math.inf,
) -> list[float]:
    """Train over the batches and return the loss of every step, in nats.

    The rate of each group follows one cycle of ``steps``: warm-up to the group's own rate, then cosine decay. Raises
    FloatingPointError at the first loss that is not finite.
    """
    model.train()
    taken = partial(step, model, optimizer, loss=loss, max_grad_norm=max_grad_norm)
    return fit_by(taken, optimizer, batches, steps=steps)


def fit_by(
    taken: Callable[[Batch], Tensor], optimizer: torch.optim.Optimizer, batches: Iterable[Batch], *, steps: int
) -> list[float]:
    """Train as `fit` does, by calling ``taken`` for the step of each batch, which returns the loss before it."""
    rates = [group["lr"] for group in optimizer.param_groups]
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, cycle_momentum=False)
    losses: list[float] = []
    for number, batch in enumerate(batches, start=1):
        value = taken(batch).item()
        if not math.isfinite(value):
            raise FloatingPointError(f"loss is {value} at step {number}")
        losses.append(value)
        cycle.step()
    return losses


Batch = Mapping[str, Tensor]
"""Keyword arguments of the model's forward, plus ``labels`` (int64, ``(batch,)``, or ``(batch, length)``)."""
