"""Measures of the balance of one layer's loads over experts, as published."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def max_violation(load: Tensor) -> Tensor:
    """Return MaxVio, max / mean - 1, of loads ``(..., experts)``; 0 for no load (arXiv:2408.15664, equation 4)."""
    mean = load.mean(-1)
    return torch.where(mean > 0, load.amax(-1) / mean.clamp_min(_TINY) - 1, torch.zeros_like(mean))


def variation(load: Tensor) -> Tensor:
    """Return the coefficient of variation of loads ``(..., experts)``; 0 for no load."""
    mean = load.mean(-1)
    return torch.where(mean > 0, load.std(-1, correction=0) / mean.clamp_min(_TINY), torch.zeros_like(mean))


def entropy(load: Tensor) -> Tensor:
    """Return the entropy of loads ``(..., experts)`` relative to that of even loads, 0 to 1; 1 for one expert."""
    experts = load.shape[-1]
    if experts == 1:
        return torch.ones_like(load[..., 0])
    share = load / load.sum(-1, keepdim=True).clamp_min(_TINY)
    relative: Tensor = -torch.special.xlogy(share, share).sum(-1) / math.log(experts)
    return relative


def excess(load: Tensor) -> Tensor:
    """Return the assignments above the mean, summed over experts, of loads ``(..., experts)``."""
    return (load - load.mean(-1, keepdim=True)).clamp_min(0).sum(-1)


_TINY = torch.finfo(torch.float32).tiny
