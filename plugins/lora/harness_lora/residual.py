"""A packed weight from which a product of two narrow matrices is taken, since it cannot be written into."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.judge.bases import PackedWeight


class Less(nn.Module):
    """The weight W - L R of a packed W: L ``(out, r)`` and R ``(r, in)`` are frozen beside it, in their own dtype.

    What an adapter takes over of a weight is taken out of it, so that the model starts as it was. Packed, the rest
    would be rounded anew; so it is computed as the difference. Fulfils `harness.judge.bases.PackedWeight`.
    """

    left: Tensor
    right: Tensor

    def __init__(self, packed: PackedWeight, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.packed = packed
        self.register_buffer("left", left.detach().clone())
        self.register_buffer("right", right.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the product of ``x`` ``(..., in)`` and the transposed difference, in the dtype of ``x``."""
        taken = functional.linear(functional.linear(x.to(self.left.dtype), self.right), self.left)
        return self.packed(x) - taken.to(x.dtype)

    def weight_of(self) -> Tensor:
        """Return the difference, ``(out, in)`` in float32."""
        return torch.addmm(self.packed.weight_of(), self.left.float(), self.right.float(), alpha=-1)
