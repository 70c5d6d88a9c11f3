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
"""The name under which an adapter is added to its block as a child."""


class Bottleneck(nn.Module):
    """x + U gelu(D x + d) + u: (..., width) to (..., width), D ~ N(0, 1/width), U, d and u 0 at the start."""

    def __init__(self, width: int, bottleneck: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(bottleneck, width, generator=generator) * width**-0.5)
        self.down_bias = nn.Parameter(torch.zeros(bottleneck))
        self.up = nn.Parameter(torch.zeros(width, bottleneck))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the output of the bottleneck, ``(..., width)``."""
        inner = functional.gelu(functional.linear(x, self.down, self.down_bias))
        return x + functional.linear(inner, self.up, self.up_bias)


class Houlsby(Adaptation):
    """Houlsby adapters (Houlsby 2019, arXiv:1902.00751, section 2.1): h + U gelu(D h) after every sub-layer.

    As in the paper, the normalisation layers train too. 2 m d + d + m parameters an adapter of bottleneck m and width
    d. U starts at 0, where the paper draws it with deviation 0.01, so that the adapted model starts as the base
    model. The nonlinearity does not fold into a weight: ``merge`` returns the model unchanged.
    """

    def __init__(self, *, bottleneck: int) -> None:
        super().__init__()
        self.bottleneck = whole_number("bottleneck", bottleneck)

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Attach an adapter to every block and unfreeze the norms; raises NotApplicable where there is no block."""
        if not task.blocks:
            raise NotApplicable("the model has no sub-layers that an adapter may follow")
        for name, (width, device) in outputs(model, task).items():
            attach(model.get_submodule(name), Bottleneck(width, self.bottleneck, task.generator).to(device))
        for name in task.norms:
            model.get_submodule(name).requires_grad_(True)


def attach(block: nn.Module, adapter: Bottleneck) -> None:
    """Attach the adapter to the block's output without renaming any module in the block."""
    if isinstance(block, nn.Sequential):
        block.append(adapter)  # its forward runs its children in order, so the last child sees the output
    else:
        block.add_module(NAME, adapter)
        block.register_forward_hook(follow)


def follow(block: nn.Module, _: object, output: Tensor) -> Tensor:
    """Apply the block's adapter to the block's output; a forward hook."""
    adapted: Tensor = block.get_submodule(NAME)(output)
    return adapted


def outputs(model: nn.Module, task: FinetuneTask) -> dict[str, tuple[int, torch.device]]:
    """Return width and device of every block's output, recorded in one forward pass over a calibration batch."""
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
