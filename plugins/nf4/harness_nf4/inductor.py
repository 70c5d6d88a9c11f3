"""The reference's arithmetic as functions for torch.compile: packing, unpacking, and the product of one input.

Sizes are symbolic, so that code is compiled once for all weights. The compiled code is kept in ``harness-nf4`` of the
user's cache. This module needs nothing of the harness.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from harness_nf4 import packing

CACHE: Final = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable of the compiler's cache, which a user may set."""

_Function = Callable[..., tuple[Tensor, ...]]

OPTIONS: Final[dict[str, str | int | bool | Callable[..., object]]] = {"cpp.dynamic_threads": True}
"""Options of the compiler: another number of threads must not cause another compilation."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A codebook of 4 bits whose loops are compiled, in the codebook's own layout.

    The compiler specialises sizes of 1, so weights of a single block are left to the codebook.
    """

    codebook: packing.Codebook

    @cached_property
    def bounds(self) -> Tensor:
        """The bounds between the ascending levels, at which the nearest level changes, float64."""
        levels = self.codebook.table[self.codebook.codes.long()].double()
        bounds: Tensor = (levels[1:] + levels[:-1]) / 2
        return bounds

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round each scaled value to the nearest level, in float64."""
        blocks = packing.in_blocks(weight.float(), self.codebook.block)
        if len(blocks) < 2:
            return self.codebook.quantize(weight)
        packed, absmax = _run(_quantize, blocks, self.bounds, self.codebook.codes)
        kept = packing.kept_scales(absmax, "absmax", double=self.codebook.double)
        return {"codes": packed.reshape(-1)[: (weight.numel() + 1) // 2].clone(), **kept}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the weight that the packed tensors hold."""
        absmax = packing.read_scales(tensors, "absmax")
        if len(absmax) < 2:
            return self.codebook.dequantize(tensors, shape, dtype)
        codes = packing.in_blocks(tensors["codes"], self.codebook.block // 2)
        (values,) = _run(_dequantize, codes, absmax, self.codebook.table)
        return packing.out_of_blocks(values, shape).to(dtype)

    def linear(self, x: Tensor, tensors: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """Return the product of ``x`` and the packed weight, computed in float32.

        For a single input without gradient, the dequantised weight is never written to memory.
        """
        block = self.codebook.block
        rows, count = shape[0], shape[1] // block
        wants_gradient = x.requires_grad and torch.is_grad_enabled()
        if wants_gradient or len(x) != 1 or shape[1] % block or rows < 2 or count < 2:
            return functional.linear(x.float(), self.dequantize(tensors, shape, torch.float32)).to(x.dtype)
        halves = x.float().view(count, block // 2, 2).permute(2, 0, 1).contiguous()
        codes = tensors["codes"].view(rows, count, block // 2)
        # the compiler would specialise a view of a single group of scales too
        absmax = packing.read_scales(tensors, "absmax").clone().view(rows, count)
        (products,) = _run(_multiply, halves, codes, absmax, self.codebook.table)
        return products[None].to(x.dtype)


def _quantize(blocks: Tensor, bounds: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Return codes uint8 ``(blocks, length / 2)``, two to a byte, and absmax float32 ``(blocks,)``."""
    absmax = blocks.abs().amax(-1, keepdim=True)
    usable = absmax.isfinite() & (absmax > 0)
    scaled = torch.where(usable, blocks.double() / absmax.double(), 0.0)
    places = (scaled[..., None] > bounds).sum(-1)
    pairs = codes[places].view(len(blocks), -1, 2)
    return pairs[..., 0] << 4 | pairs[..., 1], absmax[:, 0]


def _dequantize(codes: Tensor, absmax: Tensor, levels: Tensor) -> tuple[Tensor, ...]:
    """Return the weights float32 ``(blocks, length)`` of codes uint8 ``(blocks, length / 2)``."""
    scaled = torch.stack([levels[(codes >> 4).int()], levels[(codes & 15).int()]], -1)
    return (scaled.flatten(1) * absmax[:, None],)


def _multiply(x: Tensor, codes: Tensor, absmax: Tensor, levels: Tensor) -> tuple[Tensor, ...]:
    """Return the products of one input with each row, float32 ``(rows,)``.

    ``x`` float32 ``(2, blocks, length / 2)`` has the input's even columns, then its odd ones; ``codes`` are uint8
    ``(rows, blocks, length / 2)`` and ``absmax`` float32 ``(rows, blocks)``.
    """
    products = levels[(codes >> 4).int()] * x[0] + levels[(codes & 15).int()] * x[1]
    return ((products.sum(-1) * absmax).sum(-1),)


def _run(function: _Function, *arguments: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():  # with gradients the function would be compiled once more
        return _compiled(function)(*arguments)


@lru_cache
def _compiled(function: _Function) -> _Function:
    import torch._inductor.config

    place_cache()
    torch._inductor.config.compile_threads = 1  # the compiler's helper processes would outlive this one
    made: _Function = torch.compile(function, dynamic=True, fullgraph=True, options=OPTIONS)
    return made


def place_cache() -> None:
    """Keep compiled code in the user's cache, unless the environment names another folder.

    When torch is imported, it sets the variable to its default, a folder for temporary files; that value counts as
    unset.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE, default_cache_dir()) == default_cache_dir():
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        # compiled code is for one width of vectors: processors that share a home need a folder for each width
        width = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
        os.environ[CACHE] = str(cache / "harness-nf4" / f"inductor-{width}")
