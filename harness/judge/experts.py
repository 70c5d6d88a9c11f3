"""Experts of a mixture as linear layers, in the place of parameters of three dimensions that no technique reaches."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Expert(nn.Module):
    """A gated feed-forward: the first layer computes the gate and what it scales in one."""

    def __init__(self, gate_up: Tensor, down: Tensor, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate_up_proj = _linear(gate_up)
        self.down_proj = _linear(down)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the outputs ``(n, width)`` of tokens ``(n, width)``."""
        gate, up = self.gate_up_proj(tokens).chunk(2, dim=-1)
        outputs: Tensor = self.down_proj(self.activation(gate) * up)
        return outputs


class LinearExperts(nn.ModuleList):
    """The experts of a layer, one by one, with the outputs that transformers computes from their stacked weights."""

    def __init__(self, stacked: Any) -> None:
        weights = zip(stacked.gate_up_proj.detach(), stacked.down_proj.detach(), strict=True)
        super().__init__(Expert(gate_up, down, stacked.act_fn) for gate_up, down in weights)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return ``(n, width)``: of each token the outputs of its experts ``(n, k)``, times their weights ``(n, k)``.

        An expert that gets no token computes nothing. An index behind the last expert stands for none.
        """
        outputs = torch.zeros_like(hidden_states)
        for number in sorted(set(top_k_index.flatten().tolist())):
            if number < len(self):
                tokens, places = torch.where(top_k_index == number)
                found = self[number](hidden_states[tokens]) * top_k_weights[tokens, places, None]
                outputs.index_add_(0, tokens, found.to(outputs.dtype))
        return outputs


def unstack_experts(model: nn.Module) -> None:
    """Replace stacked experts by `LinearExperts`, in place, where they are gated in the usual way and have no biases.

    The weights are views of the stacked ones. Other experts stay as they are.
    """
    for name, module in list(model.named_modules()):
        if _is_usual(module):
            model.set_submodule(name, LinearExperts(module).train(module.training))


class UsedExperts:
    """Counts the steps in which the loss depends on what an expert computed, while a model is trained.

    In the last layer of a classifier it depends on one token of a text, so that an expert may compute in vain.
    """

    def __init__(self, model: nn.Module) -> None:
        self._experts = [module for module in model.modules() if isinstance(module, Expert)]
        self._used: Counter[int] = Counter()
        self._hooks = [
            module.register_forward_hook(partial(self._look, number)) for number, module in enumerate(self._experts)
        ]

    def _look(self, number: int, _: nn.Module, __: object, outputs: Tensor) -> None:
        if outputs.requires_grad:
            outputs.register_hook(partial(self._count, number))  # type: ignore[no-untyped-call]

    def _count(self, number: int, gradient: Tensor) -> None:
        self._used[number] += bool(gradient.any())

    def seldom(self) -> set[int]:
        """End the count; return the identities of the parameters of experts that fewer than two steps depended on.

        In a single step a factor that another of zeros multiplies gets a gradient of zeros.
        """
        for hook in self._hooks:
            hook.remove()
        rare = (expert for number, expert in enumerate(self._experts) if self._used[number] < 2)
        return {id(parameter) for expert in rare for parameter in expert.parameters()}


def _is_usual(module: Any) -> bool:
    loaded = sys.modules.get("transformers.integrations.moe")  # not imported for models that it did not make
    usual = getattr(loaded, "_default_apply_gate", None)
    return (
        usual is not None
        and getattr(type(module), "_apply_gate", None) is usual
        and module.has_gate
        and module.is_concatenated
        and not (module.has_bias or module.is_transposed or module.has_post_expert_norm)
        and isinstance(getattr(module, "gate_up_proj", None), nn.Parameter)
        and isinstance(getattr(module, "down_proj", None), nn.Parameter)
    )


def _linear(weight: Tensor) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight)
    return linear
