"""A technique of the contract ``softmax``, and the plain one that it is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.families.softmax.contract import Passes


class Plain:
    """torch's own softmax: the maximum, the sum of exponentials, the results."""

    passes = Passes(reading=2, copying=1)

    def softmax(self, x: Tensor, out: Tensor) -> None:
        """Write the softmax of each row of ``x`` to ``out``."""
        torch.softmax(x, -1, out=out)


class Stepwise:
    """A pass for each step of the definition: maximum, difference, exponential, sum, quotient."""

    passes = Passes(reading=2, copying=3)

    def softmax(self, x: Tensor, out: Tensor) -> None:
        """Write the softmax of each row of ``x`` to ``out``; a row without numbers has no maximum."""
        if x.numel():
            torch.sub(x, x.amax(-1, keepdim=True), out=out)
            out.exp_().div_(out.sum(-1, keepdim=True))
