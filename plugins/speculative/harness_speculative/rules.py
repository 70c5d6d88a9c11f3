"""The rule that makes proposals from another distribution exact draws from the target's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.families.decode.contract import Sampling


def residual(target: Tensor, draft: Tensor) -> Tensor:
    """Return the weights to draw from after a rejection: (p - q)+, not yet divided by its sum; ``(..., V)``.

    Its sum is the chance of a rejection. Leviathan et al., arXiv:2211.17192, section 2.3; Chen et al.,
    arXiv:2302.01318, algorithm 2.
    """
    return (target - draft).clamp_(min=0)


def accept(
    target: Tensor, draft: Tensor, proposed: Sequence[int], sampling: Sampling, generator: torch.Generator
) -> tuple[int, int]:
    """Return how many proposals are accepted, and the token that follows them.

    ``target`` ``(g + 1, V)`` and ``draft`` ``(g, V)`` are probabilities; proposal ``i`` was drawn from ``draft[i]``. It
    is accepted with chance min(1, p / q). The first that is not is replaced by a draw from the residual; where all
    are, one more token is drawn from the target.
    """
    count = len(proposed)
    if count:
        index = torch.tensor([proposed]).mT
        ratios = (target[:count].gather(1, index) / draft.gather(1, index)).squeeze(1).tolist()
        chances = torch.rand(count, generator=generator).tolist()
        for place in range(count):
            if chances[place] >= ratios[place]:
                return place, _replacement(target[place], draft[place], sampling, generator)
    return count, sampling.draw(target[count], generator)


def _replacement(target: Tensor, draft: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    rest = residual(target, draft)
    # rounding can leave nothing over where p and q are all but the same: then either of them is the other
    return sampling.draw(rest if bool(rest.any()) else target, generator)


def accept_certain(
    target: Tensor, proposed: Sequence[int], sampling: Sampling, generator: torch.Generator
) -> tuple[int, int]:
    """Return the same as `accept` for deterministic proposals, whose q is one-hot.

    Then p / q is p of the proposal and the residual is p without it: the same as to draw from the target and to go on
    as long as that is what was proposed, which is how it is done here.
    """
    for place, token in enumerate(proposed):
        drawn = sampling.draw(target[place], generator)
        if drawn != token:
            return place, drawn
    return len(proposed), sampling.draw(target[len(proposed)], generator)
