"""What must hold for seeds to share a training without changing a number; each raises `harness.api.CannotStack`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import CannotStack

ROUNDING: Final = 1e-5
"""Relative difference, to the largest value, of products of float32 that is rounding."""


class Structure:
    """The modules and parameters of the models when they were stacked, since later ones would be ignored."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._models = models
        self._before = self._found()

    def require_unchanged(self) -> None:
        """Raise CannotStack where objects, hooks, memory or trainability have changed."""
        if self._found() != self._before:
            raise CannotStack("it changes the model's modules or parameters while it trains")

    def _found(self) -> object:
        modules = [(module, altered(module)) for model in self._models for module in model.modules()]
        parameters = [parameter for model in self._models for parameter in model.parameters()]
        return modules, [
            (id(parameter), parameter.data_ptr(), parameter.requires_grad, hooked(parameter))
            for parameter in parameters
        ]


def altered(module: nn.Module) -> bool:
    """Return whether a module has hooks or a ``forward`` of its own, beside that of its class."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)


def hooked(parameter: Tensor) -> bool:
    """Return whether a parameter has hooks on its gradient."""
    hooks = (parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None))
    return any(hooks)


def require_one_way(loss: Tensor, parameters: Iterable[Tensor]) -> None:
    """Raise CannotStack where a loss reaches a parameter more than once beside the logits.

    The sum of three gradients depends on their order.
    """
    wanted = {id(parameter) for parameter in parameters}
    ways: Counter[int] = Counter()
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        for after, _ in node.next_functions if node is not None else ():
            if after is not None and hasattr(after, "variable"):
                ways[id(after.variable)] += 1
            elif after is not None and after not in seen:
                seen.add(after)
                waiting.append(after)
    if any(count > 1 for identity, count in ways.items() if identity in wanted):
        raise CannotStack("its loss reaches a weight in more than one way")


def require_equal_products(
    batched: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, bias: Tensor
) -> bool:
    """Require of a batched linear layer the products of each seed's own, bit for bit, forwards and backwards.

    ``x`` is ``(seeds, n, in)``, ``weight`` ``(seeds, out, in)`` and ``bias`` ``(seeds, out)``. On an accelerator,
    whose libraries choose an algorithm by the number of products, rounding may differ; return whether it does. Raises
    CannotStack where products differ otherwise.
    """
    together = _products(batched, x, weight, bias, gradient=None)
    alone = [
        _products(functional.linear, *(part.clone() for part in parts), gradient=together[0][index].clone())
        for index, parts in enumerate(zip(x, weight, bias, strict=True))
    ]
    difference = max(_difference(batch, torch.stack(own)) for batch, *own in zip(together, *alone, strict=True))
    if difference > (0.0 if x.device.type == "cpu" else ROUNDING):
        raise CannotStack(f"products of {x.shape[1]} examples differ by {difference:.1e} when batched on this machine")
    return difference > 0


def _products(
    linear: Callable[[Tensor, Tensor, Tensor], Tensor], *given: Tensor, gradient: Tensor | None
) -> list[Tensor]:
    """Return outputs and gradients of inputs, weights and biases; ``gradient`` is that of the outputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    with torch.enable_grad():
        out = linear(leaves[0], leaves[1], leaves[2])
    gradients = torch.autograd.grad(out, leaves, out.detach() if gradient is None else gradient)
    return [out.detach(), *gradients]


def _difference(found: Tensor, expected: Tensor) -> float:
    if torch.equal(found, expected):
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max())
