"""The base class of this plugin's techniques, lookups of linear layers, and seeding of torch's generator."""

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
    """The base class of techniques; fulfils `harness.families.finetune.contract.FinetuneTechnique`.

    Every parameter that requires a gradient after ``adapt``, the head's excepted, trains in one group at the given
    rate.
    """

    exact_at_start: bool = True

    def __init__(self) -> None:
        self._head: tuple[str, ...] = ()

    @abstractmethod
    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Change the model in place and set ``requires_grad`` on the parameters that train beside the head's.

        Raises `harness.api.NotApplicable` where the model has no part that the technique could adapt.
        """

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        """Adapt the model in place and return it."""
        self._head = tuple(task.head)
        self.insert(model, task)
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return one group of all parameters that train beside the head's; an empty list where there are none."""
        parameters = [parameter for _, parameter in self.trained(model)]
        return [{"params": parameters, "lr": lr}] if parameters else []

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: nothing was added that could be folded into a weight."""
        return model

    def trained(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the name and the parameter of all that trains, the head's excepted."""
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and not is_under(name, self._head):
                yield name, parameter


def is_under(name: str, modules: Sequence[str]) -> bool:
    """Return whether the dotted name is one of the modules or lies in one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def linears(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
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
        raise NotApplicable("the model has no linear layer to adapt")
    return modules


def require_full_rank(modules: dict[str, nn.Linear], rank: int) -> None:
    """Raise NotApplicable where a weight matrix has fewer than ``rank`` singular values."""
    for name, linear in modules.items():
        if rank > min(linear.weight.shape):
            raise NotApplicable(f"rank {rank} exceeds the shape {tuple(linear.weight.shape)} of {name}")


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator from ``generator`` inside the block, and restore its state afterwards."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators too
        yield
