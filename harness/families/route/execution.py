"""The gate of a technique that computes the experts itself: outputs and gradients are those of the judge's own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.route.contract import ExecutesExperts
from harness.families.route.experts import FeedForwards
from harness.judge.seeds import generator

CLOSE: Final = 1e-4
"""Largest difference of an output or a gradient that the order of sums may make, relative to the largest."""

ROWS: Final = 67
"""Rows that are computed: a prime, so that they are no multiple of any tile."""


def require_execution(technique: ExecutesExperts, experts: FeedForwards, seed: int) -> None:
    """Raise Incorrect where a technique computes other outputs or gradients than the judge.

    Rows are drawn from the seed. Loads are uneven, then with everything at the first and at the last expert.
    """
    draw = generator(seed, "execution")
    width, like = experts.inner.shape[1], experts.inner
    for loads in _loads(len(experts.inner), draw):
        rows = torch.randn(ROWS, width, generator=draw).to(like)
        weights = torch.randn(ROWS, width, generator=draw).to(like)
        ends = torch.tensor(loads, device=like.device).cumsum(0)
        found = _computed(experts, rows, weights, partial(_executed, technique, experts, ends))
        expected = _computed(experts, rows, weights, partial(_one_by_one, experts, loads))
        for what, value in expected.items():
            _require_close(what, found[what], value, loads)


def _loads(experts: int, draw: torch.Generator) -> list[list[int]]:
    """Return rows by expert: drawn for all but the first, which has none, then all at one expert."""
    chosen = torch.randint(min(1, experts - 1), experts, (ROWS,), generator=draw)
    first, last = ([ROWS if expert == at else 0 for expert in range(experts)] for at in (0, experts - 1))
    return [torch.bincount(chosen, minlength=experts).tolist(), first, last]


def _executed(technique: ExecutesExperts, experts: FeedForwards, ends: Tensor, rows: Tensor) -> object:
    """Return what the technique computes."""
    return technique.execute(rows, ends, experts.networks())


def _one_by_one(experts: FeedForwards, loads: list[int], rows: Tensor) -> Tensor:
    """Return the outputs by the definition, an expert at a time."""
    own = experts.networks()
    return torch.cat(
        [
            (part @ own.inner[number] + own.inner_bias[number]).relu() @ own.outer[number] + own.outer_bias[number]
            for number, part in enumerate(torch.split(rows, loads))
        ]
    )


def _computed(
    experts: FeedForwards, rows: Tensor, weights: Tensor, compute: Callable[[Tensor], object]
) -> Mapping[str, Tensor | None]:
    """Return outputs, and the gradients of their weighted sum for the rows and for the parameters, by name."""
    given = rows.clone().requires_grad_()
    with torch.enable_grad():
        output = compute(given)
        if not isinstance(output, Tensor) or output.shape != rows.shape:
            raise Incorrect(f"execute returns {tuple(getattr(output, 'shape', ()))}: expected {tuple(rows.shape)}")
        named = {"the rows": given, **dict(experts.named_parameters())}
        gradients = torch.autograd.grad((output * weights).sum(), list(named.values()), allow_unused=True)
    return {"outputs": output.detach()} | {
        f"gradients of {name}": gradient for name, gradient in zip(named, gradients, strict=True)
    }


def _require_close(what: str, found: Tensor | None, expected: Tensor | None, loads: list[int]) -> None:
    if found is None or expected is None:
        if expected is not None and bool(expected.any()):
            raise Incorrect(f"execute gives no {what}")
        return
    largest = float(expected.abs().max())
    gap = float((found - expected).abs().max())
    if not gap <= CLOSE * max(largest, 1e-30):
        raise Incorrect(f"{what} of execute differ by {gap:.2g} of at most {largest:.2g}, with {loads} rows an expert")
