"""What every technique of this plugin shares: who trains beside the head, and where random numbers come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from harness.api import NotApplicable
from harness.families.finetune.contract import FinetuneTask


class Adaptation(ABC):
    """The common part of `harness.families.finetune.contract.FinetuneTechnique`.

    Whatever requires a gradient after ``adapt``, the head excepted, trains in one group at the given rate.
    """

    exact_at_start: bool = True

    def __init__(self) -> None:
        self._head: tuple[str, ...] = ()

    @abstractmethod
    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Change the model in place and set ``requires_grad`` on what trains beside the head.

        Raises `harness.api.NotApplicable` where the model has nothing to act on.
        """

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        """Adapt the model in place and return it."""
        self._head = tuple(task.head)
        self.insert(model, task)
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """One group of all that trains beside the head; none where nothing does."""
        parameters = [parameter for _, parameter in self.trained(model)]
        return [{"params": parameters, "lr": lr}] if parameters else []

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model as it is: it already has the shape it is served in."""
        return model

    def trained(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that train, the head's excepted."""
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and not is_under(name, self._head):
                yield name, parameter


def is_under(name: str, modules: Sequence[str]) -> bool:
    """Whether the dotted name lies in (or is) one of the modules."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def linears(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    """The linear modules of these dotted names; raises NotApplicable where there are none."""
    found: dict[str, nn.Linear] = {}
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Linear):
            raise NotApplicable(f"{name} is a {type(module).__name__}, not a Linear")
        found[name] = module
    if not found:
        raise NotApplicable("the model has no linear layer to adapt")
    return found


def require_full_rank(modules: dict[str, nn.Linear], rank: int) -> None:
    """Raise NotApplicable where a weight matrix has fewer than ``rank`` singular values."""
    for name, linear in modules.items():
        if rank > min(linear.weight.shape):
            raise NotApplicable(f"rank {rank} exceeds the shape {tuple(linear.weight.shape)} of {name}")


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Let what draws from torch's global CPU generator draw from ``generator`` instead, and leave no trace."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators too
        yield
