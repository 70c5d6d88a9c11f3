"""Finds the parts of a model of transformers: what may be adapted, and what each linear layer is for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from harness.families.finetune.projections import rows_of
from harness.judge.architectures import Anatomy
from harness.judge.pretrained import NUMBERED

_INNERMOST: Final = re.compile(r"^(.*(?<!experts)\.\d+)\.")
"""The name of the innermost repeated layer, up to its number, in the name of a module inside."""

_EXPERT: Final = re.compile(r"(?<=experts)\.\d+(?=\.)")
"""The number of an expert in the name of a module inside."""

_KEYS: Final = frozenset({"k", "k_proj", "key", "key_proj", "k_lin"})
_VALUES: Final = frozenset({"v", "v_proj", "value", "value_proj", "v_lin"})
_FUSED: Final = frozenset({"qkv", "qkv_proj", "Wqkv", "query_key_value", "c_attn", "kv_proj", "in_proj"})
"""How transformers names the linear layers that compute keys, values, or both and the queries in one."""


def anatomy_of(model: nn.Module, head: Sequence[str], forward: Callable[[nn.Module], Tensor]) -> Anatomy:
    """Return the parts of a model, as one call of ``forward`` finds them.

    Adapted are the linear layers inside of repeated layers. In each of these, the last linear layer that an attention
    calls, and the last one that is called outside of the attention, which ends the feed-forward, end a block; of
    experts, each one's last. A stage of repeated layers is none itself: what it calls between them is adapted, but
    ends no block.
    """
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and NUMBERED.match(name) and not name.startswith(tuple(head))
    }
    called = _order_of_calls(model, linears, forward)
    attention: dict[str, str] = {}
    feedforward: dict[str, str] = {}
    layers = {_layer_of(name) for name in called}
    stages = {layer for layer in layers if any(other.startswith(f"{layer}.") for other in layers)}
    for name in called:
        if (layer := _layer_of(name)) in stages:
            continue
        (attention if is_attention(name) else feedforward)[layer] = name
    last = {_EXPERT.sub("", name) for name in feedforward.values()}
    feed = [name for name in linears if _EXPERT.sub("", name) in last]  # all experts of a layer, not only the last
    ends = {*attention.values(), *feed}
    return Anatomy(
        linears=list(linears),
        norms=[name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")],
        blocks=[name for name in linears if name in ends],
        head=tuple(head),
        feedforward=feed,
        **(kinds := projections(list(linears))),
        rows=rows_of(model, kinds["fused"]),
    )


def projections(linears: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return which linear layers compute keys, which values, and which both in one, by their names."""
    return {
        kind: [name for name in linears if name.rpartition(".")[2] in names]
        for kind, names in (("keys", _KEYS), ("values", _VALUES), ("fused", _FUSED))
    }


def is_attention(name: str) -> bool:
    """Return whether a module is part of an attention, by its name within its repeated layer."""
    return "att" in name[len(_layer_of(name)) :].lower()


def coverage(model: nn.Module, anatomy: Anatomy) -> float:
    """Return the share of the weights in repeated layers that the linear layers of an anatomy hold."""
    inside = {
        id(parameter): parameter.numel()
        for name, parameter in model.named_parameters()
        if NUMBERED.match(name) and parameter.ndim > 1 and not name.startswith(tuple(anatomy.head))
    }
    reached = {id(model.get_submodule(name).weight) for name in anatomy.linears}
    return sum(count for key, count in inside.items() if key in reached) / max(sum(inside.values()), 1)


def _layer_of(name: str) -> str:
    """Return the innermost repeated layer of a module; the experts of a layer are no layers."""
    match = _INNERMOST.match(name)
    return match.group(1) if match else ""


def _order_of_calls(
    model: nn.Module, linears: dict[str, nn.Linear], forward: Callable[[nn.Module], Tensor]
) -> Sequence[str]:
    """Return the names of linear layers in the order in which a forward pass calls them last."""
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _, __, ___, name=name: called.append(name))
        for name, module in linears.items()
    ]
    try:
        with torch.no_grad():
            forward(model)
    finally:
        for hook in hooks:
            hook.remove()
    return called
