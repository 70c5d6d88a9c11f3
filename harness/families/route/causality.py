"""The causality check of a language model: predictions must not depend on later characters."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect, NotApplicable
from harness.families.route.contract import RouteTechnique
from harness.families.route.models import Batch, RoutedModel
from harness.families.route.training import testing
from harness.judge.seeds import generator

TRIALS: Final = 8
"""Trials, each of which replaces the characters after a random place of a sequence."""

TOLERANCE: Final = 1e-4
"""Largest difference of logits that rounding may make, relative to the largest logit."""


def leak(model: RoutedModel, batch: Batch, vocabulary: int, seed: int) -> float:
    """Return the largest relative change of a logit when later characters of its sequence are replaced at random.

    The change is relative to the largest logit. Each of `TRIALS` reads one sequence of the batch alone, so that only
    its own tokens compete for the experts. Random draws of a prediction are the same every time.
    """
    draw = generator(seed, "causality")
    sequences, length = batch.inputs.shape
    worst = 0.0
    for trial in range(TRIALS):
        place = int(torch.randint(1, length, (), generator=draw))
        inputs = batch.inputs[trial % sequences].unsqueeze(0)
        changed = inputs.clone()
        changed[0, place:] = torch.randint(vocabulary, (length - place,), generator=draw).to(inputs.device)
        expected, found = (_logits(model, characters, seed)[0, :place] for characters in (inputs, changed))
        worst = max(worst, _gap(found, expected))
    return worst


def sway(model: RoutedModel, batch: Batch, vocabulary: int, seed: int) -> float:
    """Return the largest relative change of a logit when the other half of its batch is replaced at random."""
    draw = generator(seed, "sway")
    half = len(batch.inputs) // 2
    expected = _logits(model, batch.inputs, seed)
    gaps = [0.0]
    for replaced, kept in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        changed = batch.inputs.clone()
        changed[replaced] = torch.randint(vocabulary, changed[replaced].shape, generator=draw).to(changed.device)
        if changed[kept].numel():
            gaps.append(_gap(_logits(model, changed, seed)[kept], expected[kept]))
    return max(gaps)


def require_causality(technique: RouteTechnique, model: RoutedModel, batch: Batch, vocabulary: int, seed: int) -> None:
    """Raise Incorrect where later characters leak into a technique declared causal, NotApplicable into any other.

    The loss of a language model that sees the characters it predicts is meaningless.
    """
    found = leak(model, batch, vocabulary, seed)
    if found <= TOLERANCE:
        return
    if technique.causal:
        raise Incorrect(
            f"leaks: characters yet to come change a logit by {100 * found:.2g} % of the largest, though the technique "
            "is declared causal"
        )
    raise NotApplicable("leaks: what it predicts depends on characters yet to come, so its loss would mean nothing")


def _logits(model: RoutedModel, inputs: Tensor, seed: int) -> Tensor:
    """Return logits ``(sequences, length, vocabulary)``; targets are not used."""
    with testing(model, seed):
        logits: Tensor = model(Batch(inputs=inputs, ids=inputs.flatten(), targets=inputs.flatten()), [])
    return logits.view(*inputs.shape, -1)


def _gap(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1.0)).item()
