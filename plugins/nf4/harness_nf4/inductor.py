"""The reference's arithmetic as functions that torch.compile makes loops of: packing, unpacking, one input's product.

Sizes are symbols to the compiler, so that code is compiled once for all weights. What it compiled is kept beside the
C++ kernel, in ``harness-nf4`` of the user's cache. Nothing of the harness is needed here.
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
"""Where a user may want the compiler's cache to be; so it is said in the environment."""

_Function = Callable[..., tuple[Tensor, ...]]

OPTIONS: Final[dict[str, str | int | bool | Callable[..., object]]] = {"cpp.dynamic_threads": True}
"""A thread more or less is no reason to compile again."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A codebook of 4 bits whose loops are compiled, in the codebook's own layout.

    Sizes of 1 would be compiled for apart, so weights of one block are left to the codebook.
    """

    codebook: packing.Codebook

    @cached_property
    def bounds(self) -> Tensor:
        """Where the nearest of the ascending levels changes, float64."""
        levels = self.codebook.table[self.codebook.codes.long()].double()
        bounds: Tensor = (levels[1:] + levels[:-1]) / 2
        return bounds

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """Round to the nearest level, in float64."""
        blocks = packing.in_blocks(weight.float(), self.codebook.block)
        if len(blocks) < 2:
            return self.codebook.quantize(weight)
        found, absmax = _run(_quantize, blocks, self.bounds, self.codebook.codes)
        kept = packing.kept_scales(absmax, "absmax", double=self.codebook.double)
        return {"codes": found.reshape(-1)[: (weight.numel() + 1) // 2].clone(), **kept}

    def dequantize(self, tensors: Mapping[str, Tensor], shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Look the codes up."""
        absmax = packing.read_scales(tensors, "absmax")
        if len(absmax) < 2:
            return self.codebook.dequantize(tensors, shape, dtype)
        codes = packing.in_blocks(tensors["codes"], self.codebook.block // 2)
        (found,) = _run(_dequantize, codes, absmax, self.codebook.table)
        return packing.out_of_blocks(found, shape).to(dtype)

    def linear(self, x: Tensor, tensors: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """Products in float32. One input's are made without writing the weight to memory, gradients apart."""
        block = self.codebook.block
        rows, count = shape[0], shape[1] // block
        wants_gradient = x.requires_grad and torch.is_grad_enabled()
        if wants_gradient or len(x) != 1 or shape[1] % block or rows < 2 or count < 2:
            return functional.linear(x.float(), self.dequantize(tensors, shape, torch.float32)).to(x.dtype)
        halves = x.float().view(count, block // 2, 2).permute(2, 0, 1).contiguous()
        codes = tensors["codes"].view(rows, count, block // 2)
        # a view of a single group of scales would be compiled for apart too
        absmax = packing.read_scales(tensors, "absmax").clone().view(rows, count)
        (found,) = _run(_multiply, halves, codes, absmax, self.codebook.table)
        return found[None].to(x.dtype)


def _quantize(blocks: Tensor, bounds: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
    """Codes uint8 ``(blocks, length / 2)``, two a byte, and absmax float32 ``(blocks,)``."""
    absmax = blocks.abs().amax(-1, keepdim=True)
    usable = absmax.isfinite() & (absmax > 0)
    scaled = torch.where(usable, blocks.double() / absmax.double(), 0.0)
    places = (scaled[..., None] > bounds).sum(-1)
    found = codes[places].view(len(blocks), -1, 2)
    return found[..., 0] << 4 | found[..., 1], absmax[:, 0]


def _dequantize(codes: Tensor, absmax: Tensor, levels: Tensor) -> tuple[Tensor, ...]:
    """Float32 ``(blocks, length)`` of codes uint8 ``(blocks, length / 2)``."""
    found = torch.stack([levels[(codes >> 4).int()], levels[(codes & 15).int()]], -1)
    return (found.flatten(1) * absmax[:, None],)


def _multiply(x: Tensor, codes: Tensor, absmax: Tensor, levels: Tensor) -> tuple[Tensor, ...]:
    """``x`` float32 ``(2, blocks, length / 2)``, even places and odd, times each row: float32 ``(rows,)``.

    ``codes`` uint8 ``(rows, blocks, length / 2)``, ``absmax`` float32 ``(rows, blocks)``.
    """
    products = levels[(codes >> 4).int()] * x[0] + levels[(codes & 15).int()] * x[1]
    return ((products.sum(-1) * absmax).sum(-1),)


def _run(function: _Function, *arguments: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():  # with gradients it would be compiled once more
        return _compiled(function)(*arguments)


@lru_cache
def _compiled(function: _Function) -> _Function:
    import torch._inductor.config

    place_cache()
    torch._inductor.config.compile_threads = 1  # helpers of the compiler would outlive it
    made: _Function = torch.compile(function, dynamic=True, fullgraph=True, options=OPTIONS)
    return made


def place_cache() -> None:
    """Keep what is compiled in the user's cache, unless the environment says where it is to be.

    torch's default, a folder for temporary files, is in the environment too: torch puts it there when it is imported.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE, default_cache_dir()) == default_cache_dir():
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        # what is compiled is for one width of vectors: a home that unlike processors share needs a folder for each
        width = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
        os.environ[CACHE] = str(cache / "harness-nf4" / f"inductor-{width}")
