"""The contract ``finetune``: from a pretrained model to an adapted one.

The judge owns the base model, the data, the optimiser, the schedule and the head of the task; a technique says
which other parameters train, in which groups, what changes in the forward pass, and how it merges back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.judge.training import Batch


@dataclass(frozen=True, kw_only=True)
class FinetuneTask:
    """What a technique may know of the task. It never sees validation or test data.

    ``linears`` are the dotted names of the ``nn.Linear`` modules of the backbone that may be adapted, ``norms``
    those of its normalisation layers, ``blocks`` those of the sub-layers whose output (a tensor of shape
    ``(..., width)``) an adapter may follow. ``head`` names the modules of the task head: the judge sets
    ``requires_grad`` on them before ``adapt`` and trains them at a fixed rate of its own; leave them alone.
    ``feedforward`` are the names, among ``linears``, of the position-wise feed-forward linears that IA3 scales.
    ``calibration()`` iterates over training batches, the same for every technique; each is ``Batch``.
    ``forward(model, batch)`` gives logits of shape ``(batch, classes)``; ``loss(model, batch)`` the mean
    cross-entropy. ``generator`` (CPU) is seeded from the case: draw from it and nothing else.
    """

    linears: Sequence[str]
    norms: Sequence[str]
    blocks: Sequence[str]
    head: Sequence[str]
    feedforward: Sequence[str]
    classes: int
    calibration: Callable[[], Iterator[Batch]]
    forward: Callable[[nn.Module, Batch], Tensor]
    loss: Callable[[nn.Module, Batch], Tensor]
    generator: torch.Generator


@runtime_checkable
class FinetuneTechnique(Protocol):
    """What a technique of this contract builds."""

    exact_at_start: bool
    """Whether the adapted model computes the base model's function before the first step."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        """Adapt the model (in place or wrapped) and return it.

        The model arrives with ``requires_grad`` false on everything but the head. Set it on what trains. Raise
        `harness.api.NotApplicable` where the model has nothing to act on (no norm layers, odd sizes).
        """

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Optimiser groups (``params``, ``lr`` and other AdamW options) of all that trains, the head excepted."""

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the adapted model in the form it would be served in: adapters folded into weights where possible."""
