"""The measures of the contract ``control``: populations of weighted texts against what enumeration knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.families.control.contract import Population

DEVIATIONS: Final = 5.0
"""Standard errors by which a mean of weights may be off: one in a million."""


_TESTED: Final = 30
"""Times that a token must have been drawn for its weights' mean to be close to normal."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What enumeration knows: the evidence Z, and the posterior probability of each token at each place ``(T, V)``."""

    evidence: float
    marginals: Tensor


def worst(runs: Sequence[Population], truth: Truth) -> tuple[float, str]:
    """By how many standard errors a mean weight is off at most, over all texts and over those with a token at a place.

    Populations are independent, particles of one need not be: so the error is that over populations.
    """
    length, size = truth.marginals.shape
    found = torch.zeros(len(runs), length, size, dtype=torch.float64)
    seen = torch.zeros(length, size)
    for number, one in enumerate(runs):
        for text, weight in zip(one.texts, one.weights, strict=True):
            for place, token in enumerate(text if weight > 0 else ()):
                found[number, place, token] += weight / len(one.texts)
                seen[place, token] += 1
    means = torch.cat([found.sum(2).mean(1)[:, None], found.flatten(1)], 1)
    true = truth.evidence * torch.cat([torch.ones(1, dtype=torch.float64), truth.marginals.flatten()])
    errors = means.std(0) / math.sqrt(len(runs))
    off = (means.mean(0) - true).abs() / errors.clamp(min=1e-9 * truth.evidence)
    off[1:][seen.flatten() < _TESTED] = 0.0
    place = int(off.argmax())
    what = "all texts" if place == 0 else f"texts with token {(place - 1) % size} at place {(place - 1) // size}"
    return float(off[place]), what


def distance(runs: Sequence[Population], truth: Truth) -> float:
    """Total variation between the marginals of all populations together and the posterior's, mean over places."""
    found = torch.zeros_like(truth.marginals)
    for one in runs:
        for text, weight in zip(one.texts, one.weights, strict=True):
            for place, token in enumerate(text if weight > 0 else ()):
                found[place, token] += weight
    shares = found / found.sum(1, keepdim=True).clamp(min=1e-300)
    return float(0.5 * (shares - truth.marginals).abs().sum(1).mean())
