"""Top-k with experts that are computed by Triton, on tokens sorted by expert."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import Unavailable
from harness.families.route.contract import Networks
from harness_moe import grouped
from harness_moe.scored import Scored


class Grouped(Scored):
    """The routing of `Scored`, whose assignments are computed in one launch a product, without padding.

    The technique needs a GPU, or Triton's interpreter (``TRITON_INTERPRET=1``), which is slow and meant for tests.
    """

    def __init__(self, k: int = 2, score: str = "softmax", u: float = 0.0, alpha: float = 0.0, z: float = 0.0) -> None:
        super().__init__(k=k, score=score, u=u, alpha=alpha, z=z)
        if grouped.runs_compiled() and not torch.cuda.is_available():
            raise Unavailable("Triton's kernels run on a GPU: harness run --device cuda")

    def execute(self, inputs: Tensor, ends: Tensor, networks: Networks) -> Tensor:
        """Return the experts' outputs for rows that are sorted by expert."""
        if inputs.device.type == "cpu" and grouped.runs_compiled():
            raise Unavailable("Triton's kernels run on a GPU: harness run --device cuda")
        return grouped.compute(inputs, ends, networks)
