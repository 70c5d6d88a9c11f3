"""Whether a language model sees the future: does what it says change with characters that come later?"""

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
"""Times that what follows some place of a sequence is replaced at random."""

TOLERANCE: Final = 1e-4
"""Largest difference of logits that rounding may make, relative to the largest logit."""


def leak(model: RoutedModel, batch: Batch, vocabulary: int, seed: int) -> float:
    """How far random characters from some place on change what is predicted before it.

    The largest change of a logit, relative to the largest logit. Each of `TRIALS` reads a sequence of the batch alone,
    so that its own tokens compete for the experts. What is drawn while predicting is the same every time.
    """
    draw = generator(seed, "causality")
    sequences, length = batch.inputs.shape
    worst = 0.0
    for trial in range(TRIALS):
        place = int(torch.randint(1, length, (), generator=draw))
        inputs = batch.inputs[trial % sequences].unsqueeze(0)
        changed = inputs.clone()
        changed[0, place:] = torch.randint(vocabulary, (length - place,), generator=draw).to(inputs.device)
        expected, found = (_logits(model, one, seed)[0, :place] for one in (inputs, changed))
        worst = max(worst, _gap(found, expected))
    return worst


def sway(model: RoutedModel, batch: Batch, vocabulary: int, seed: int) -> float:
    """How far half of a batch's sequences, replaced at random, change what is predicted for the other half."""
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
    """Raise NotApplicable where the future leaks and the technique says so, Incorrect where it does not say so.

    A language model that sees what it has to predict has a loss that means nothing, so it gets none.
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
    """Logits ``(sequences, length, vocabulary)``; targets are not looked at."""
    with testing(model, seed):
        logits: Tensor = model(Batch(inputs=inputs, ids=inputs.flatten(), targets=inputs.flatten()), [])
    return logits.view(*inputs.shape, -1)


def _gap(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1.0)).item()
