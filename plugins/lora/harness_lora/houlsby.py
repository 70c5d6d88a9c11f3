"""The adapter of Houlsby: a small bottleneck after each sub-layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import NotApplicable, whole_number
from harness.families.finetune.contract import FinetuneTask
from harness_lora.adaptation import Adaptation

NAME = "houlsby"
"""The child of a block that its adapter becomes."""


class Bottleneck(nn.Module):
    """x + U gelu(D x + d) + u: (..., width) to (..., width), with D ~ N(0, 1/width), U = 0 and no bias at first."""

    def __init__(self, width: int, bottleneck: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(bottleneck, width, generator=generator) * width**-0.5)
        self.down_bias = nn.Parameter(torch.zeros(bottleneck))
        self.up = nn.Parameter(torch.zeros(width, bottleneck))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the bottleneck adds."""
        inner = functional.gelu(functional.linear(x, self.down, self.down_bias))
        return x + functional.linear(inner, self.up, self.up_bias)


class Houlsby(Adaptation):
    """Houlsby adapters (Houlsby 2019, arXiv:1902.00751, section 2.1): h + U gelu(D h) after every sub-layer.

    As in the paper, the normalisation layers train too. 2 m d + d + m parameters an adapter of bottleneck m and width
    d. U starts at 0 where the paper draws it with
    deviation 0.01, so that the start is exact. The nonlinearity does not fold into a weight: ``merge`` returns the
    model as it is.
    """

    def __init__(self, *, bottleneck: int) -> None:
        super().__init__()
        self.bottleneck = whole_number("bottleneck", bottleneck)

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Let an adapter follow every block; NotApplicable where the task names none."""
        if not task.blocks:
            raise NotApplicable("the model has no sub-layers that an adapter may follow")
        for name, (width, device) in outputs(model, task).items():
            attach(model.get_submodule(name), Bottleneck(width, self.bottleneck, task.generator).to(device))
        for name in task.norms:
            model.get_submodule(name).requires_grad_(True)


def attach(block: nn.Module, adapter: Bottleneck) -> None:
    """Let the adapter follow the block without renaming anything in it."""
    if isinstance(block, nn.Sequential):
        block.append(adapter)  # its forward runs its children: the last one sees its output
    else:
        block.add_module(NAME, adapter)
        block.register_forward_hook(follow)


def follow(block: nn.Module, _: object, output: Tensor) -> Tensor:
    """The forward hook of an adapted block."""
    adapted: Tensor = block.get_submodule(NAME)(output)
    return adapted


def outputs(model: nn.Module, task: FinetuneTask) -> dict[str, tuple[int, torch.device]]:
    """Width and device of every block's output, seen in one forward pass over a calibration batch."""
    seen: dict[str, tuple[int, torch.device]] = {}

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            seen[name] = (output.shape[-1], output.device)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in task.blocks]
    training = model.training
    model.eval()
    with torch.no_grad():
        task.forward(model, next(iter(task.calibration())))
    model.train(training)
    for handle in handles:
        handle.remove()
    return {name: seen[name] for name in task.blocks}
