"""The measures of the contract ``control``: populations of weighted texts compared with exact enumeration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from scipy.optimize import brentq
from scipy.stats import nct
from torch import Tensor

from harness.families.control.contract import Population

DEVIATIONS: Final = 5.0
"""Standard errors by which a mean of weights may be off: a correct one is so with a chance of one in a million."""

POWER: Final = 0.95
"""Chance with which weights that are off by the stated error are found."""

_TESTED: Final = 30
"""Draws of a token that its mean weight needs to be close to normal."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The exact evidence Z, and the posterior probability of each token at each place, float64 ``(T, V)``."""

    evidence: float
    marginals: Tensor


def worst(runs: Sequence[Population], truth: Truth) -> tuple[float, str]:
    """Return the largest error of a mean weight in standard errors, and which mean it is.

    The means are over all texts, and over those with a given token at a given place. Populations are independent and
    particles of one need not be, so the standard error is that over populations.
    """
    length, size = truth.marginals.shape
    weights = torch.zeros(len(runs), length, size, dtype=torch.float64)
    seen = torch.zeros(length, size)
    for number, population in enumerate(runs):
        for text, weight in zip(population.texts, population.weights, strict=True):
            for place, token in enumerate(text if weight > 0 else ()):
                weights[number, place, token] += weight / len(population.texts)
                seen[place, token] += 1
    means = torch.cat([weights.sum(2).mean(1)[:, None], weights.flatten(1)], 1)
    true = truth.evidence * torch.cat([torch.ones(1, dtype=torch.float64), truth.marginals.flatten()])
    errors = means.std(0) / math.sqrt(len(runs))
    off = (means.mean(0) - true).abs() / errors.clamp(min=1e-9 * truth.evidence)
    off[1:][seen.flatten() < _TESTED] = 0.0
    place = int(off.argmax())
    what = "all texts" if place == 0 else f"texts with token {(place - 1) % size} at place {(place - 1) // size}"
    return float(off[place]), what


def detectable(runs: Sequence[Population], truth: Truth) -> float:
    """Return the error of the mean weight of all texts that is found with chance `POWER`, relative to the evidence.

    The mean over n populations, in standard errors that these populations give, has a noncentral t distribution with
    n - 1 degrees of freedom. Weights that differ more from population to population hide a larger error.
    """
    freedom = len(runs) - 1
    estimates = torch.tensor([population.evidence for population in runs], dtype=torch.float64)
    error = float(estimates.std()) / math.sqrt(len(runs))
    needed = brentq(lambda centre: nct.sf(DEVIATIONS, freedom, centre) - POWER, DEVIATIONS, 10 * DEVIATIONS)
    return float(needed) * error / truth.evidence


def distance(runs: Sequence[Population], truth: Truth) -> float:
    """Return the total variation between the populations' pooled marginals and the posterior's, mean over places."""
    weights = torch.zeros_like(truth.marginals)
    for population in runs:
        for text, weight in zip(population.texts, population.weights, strict=True):
            for place, token in enumerate(text if weight > 0 else ()):
                weights[place, token] += weight
    shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-300)
    return float(0.5 * (shares - truth.marginals).abs().sum(1).mean())
