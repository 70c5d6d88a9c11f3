"""Puts a base under a model: packs the weights that may be adapted, and says what that means for the results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn
from transformers import PreTrainedModel

from harness.judge.bases import Base, computing, pack


def based(model: nn.Module, linears: Sequence[str], base: Base) -> list[str]:
    """Pack the weights of these linear layers as a base does, in place, and return notes on that for the report."""
    before = sum(_bytes(model.get_submodule(name)) for name in linears)
    packed = pack(model, linears, base)
    if not packed:
        return [] if base.dtype == torch.float32 else [f"base: frozen weights and products in {_name(base)}"]
    after = sum(_bytes(model.get_submodule(name)) for name in linears)
    return [
        f"base: the weights of {len(packed)} of {len(linears)} linear layers are packed, in {after / 2**20:.1f} MiB "
        f"instead of {before / 2**20:.1f}; the rest and products are in {_name(base)}",
        "base: adapters stay beside packed weights, and inference is measured with them; what trains all weights "
        "begins with the unpacked ones",
    ]


def computing_as_loaded(model: nn.Module, device: str) -> AbstractContextManager[object]:
    """Return a context in which products are computed in the dtype that a model of transformers was loaded in.

    The model may be wrapped by a technique. The dtype of its parameters does not tell: what trains is in float32.
    """
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    return computing((inner.config.dtype if inner is not None else None) or torch.float32, device)


def _name(base: Base) -> str:
    return str(base.dtype).removeprefix("torch.")


def _bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers of a module."""
    return sum(value.numel() * value.element_size() for value in (*module.parameters(), *module.buffers()))
