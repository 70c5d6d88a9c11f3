"""Puts a base under a model: packs the weights that may be adapted, and says what that means for the results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from harness.judge.bases import Base, pack


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


def _name(base: Base) -> str:
    return str(base.dtype).removeprefix("torch.")


def _bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers of a module."""
    return sum(value.numel() * value.element_size() for value in (*module.parameters(), *module.buffers()))
