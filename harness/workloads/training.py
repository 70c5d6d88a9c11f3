"""How the judge trains: the settings, where randomness comes from, the order of batches, the optimiser's loop."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import Json, UsageError
from harness.workloads.finetune import Batch


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol of a fine-tuning: ``lr`` is the technique's peak rate, ``head_lr`` that of the head.

    Gradients of all that trains are scaled down together to a norm of ``max_grad_norm``: without it, single batches
    throw small models far enough to triple the spread over seeds.
    """

    steps: int
    batch_size: int
    lr: float
    head_lr: float
    weight_decay: float
    max_grad_norm: float
    train_images: int
    validation_images: int

    @classmethod
    def read(cls, values: Mapping[str, Json]) -> Settings:
        """The settings of a case; raises UsageError that names every value that is missing or makes no sense."""
        wanted = {"weight_decay": "zero or more"}
        found = (
            setting_problem(one.name, str(one.type), values.get(one.name), wanted.get(one.name, "more than zero"))
            for one in fields(cls)
        )
        problems = [line for line in found if line]
        if problems:
            raise UsageError(*problems)
        return cls(**{field.name: values[field.name] for field in fields(cls)})  # type: ignore[arg-type]


RANGES: Final[Mapping[str, Callable[[float], bool]]] = {
    "more than zero": lambda value: value > 0,
    "zero or more": lambda value: value >= 0,
    "a share from 0 to less than 1": lambda value: 0 <= value < 1,
}
"""What a setting may be expected to be, in words."""


def setting_problem(name: str, kind: str, value: Json, wanted: str = "more than zero") -> str:
    """What is wrong with a setting's value, and what was expected; empty where it is a finite number as wanted.

    ``kind`` is ``int`` or ``float``, ``wanted`` one of `RANGES`.
    """
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else int | float):
        wanted = "a whole number" if kind == "int" else "a number"
    elif math.isfinite(value) and RANGES[wanted](value):
        return ""
    return f"setting {name} = {value!r}: expected {wanted}"


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of a seed, independent of all others: what one draws moves no other."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


@contextmanager
def global_seed(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators, for what draws from them, and leave them as they were."""
    accelerators = [] if device == "cpu" else [device]
    with torch.random.fork_rng(accelerators, device_type=device.partition(":")[0] if accelerators else "cuda"):
        torch.manual_seed(seed)
        yield


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
