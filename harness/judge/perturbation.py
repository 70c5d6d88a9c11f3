"""Perturbs the weights of a training by about one rounding error, so that it may be seen whether that matters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from harness.api import CaseContext
from harness.judge.seeds import generator


def perturb_start(trains: Iterable[Tensor], context: CaseContext) -> None:
    """Move each number of what trains by a rounding error, up or down at random, where the context is perturbed.

    A workload calls it once, after the technique was attached and before the first step. The change is the number
    times the epsilon of its type: one or two units in the last place, as if the number had been computed in another
    order of summation. All that follows is then rounded in other ways. Zeros stay. The signs are drawn from a generator
    of their own, so that no other draw of the seed changes.
    """
    if not context.perturbed:
        return
    draw = generator(context.seed, "perturbation")
    with torch.no_grad():
        for values in trains:
            if values.is_floating_point():
                up = torch.randint(0, 2, values.shape, generator=draw).to(values.device, values.dtype)
                values.mul_(1 + torch.finfo(values.dtype).eps * (2 * up - 1))
