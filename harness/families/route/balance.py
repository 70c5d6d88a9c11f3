"""How evenly tokens are spread over experts, by the measures of the papers, each of one layer's loads."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def max_violation(load: Tensor) -> Tensor:
    """MaxVio, max load / mean load - 1 (arXiv:2408.15664, equation 4), of loads ``(..., experts)``; 0 for no load."""
    mean = load.mean(-1)
    return torch.where(mean > 0, load.amax(-1) / mean.clamp_min(_TINY) - 1, torch.zeros_like(mean))


def variation(load: Tensor) -> Tensor:
    """The coefficient of variation, standard deviation over mean, of loads ``(..., experts)``; 0 for no load."""
    mean = load.mean(-1)
    return torch.where(mean > 0, load.std(-1, correction=0) / mean.clamp_min(_TINY), torch.zeros_like(mean))


def entropy(load: Tensor) -> Tensor:
    """The entropy of loads ``(..., experts)`` as shares over that of even ones, 0 to 1; 1 for a single expert."""
    experts = load.shape[-1]
    if experts == 1:
        return torch.ones_like(load[..., 0])
    share = load / load.sum(-1, keepdim=True).clamp_min(_TINY)
    found: Tensor = -torch.special.xlogy(share, share).sum(-1) / math.log(experts)
    return found


def excess(load: Tensor) -> Tensor:
    """Assignments above the mean, summed over experts, of loads ``(..., experts)``."""
    return (load - load.mean(-1, keepdim=True)).clamp_min(0).sum(-1)


_TINY = torch.finfo(torch.float32).tiny
