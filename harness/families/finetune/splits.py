"""Divides examples into those to train on, to choose tuned values by and to test on, as the data or the seed say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

PARTS: Final = ("", "train", "validation", "test")
"""The parts of a split that data have of their own, the first where they have none."""

Divide = Callable[[Tensor, Sequence[int]], Sequence[Tensor]]
"""Returns disjoint parts of indices, so many in each as the numbers say."""


def parted(parts: Tensor, wanted: Mapping[str, int], divide: Divide) -> list[Tensor]:
    """Return the indices of the examples for ``train``, ``validation`` and ``test``, at most so many as are wanted.

    ``parts`` has the place of each example's own part in `PARTS`. What the data's own split names is kept; the other
    parts are shared out from what is there to train on, few examples in about the same proportions.
    """
    members = {name: (parts == number).nonzero().flatten() for number, name in enumerate(PARTS)}
    given = [name for name in ("validation", "test") if len(members[name])]
    found = {name: divide(members[name], [min(wanted[name], len(members[name]))])[0] for name in given}
    shared = [name for name in wanted if name not in given]
    pool = torch.cat([members[""], members["train"]])
    found |= dict(zip(shared, divide(pool, shares(len(pool), [wanted[name] for name in shared])), strict=True))
    return [found[name] for name in wanted]


def shares(count: int, wanted: Sequence[int]) -> list[int]:
    """Return how many of ``count`` examples each part gets: those wanted, or their share; the first gets the rest.

    A test, the last of three parts, is made smaller before the others are, but not smaller than what is trained on.
    """
    if len(wanted) > 2:
        *others, test = wanted
        wanted = [*others, min(test, max(count - sum(others), wanted[0]))]
    share = min(1.0, count / sum(wanted))
    smaller = [max(1, math.floor(share * part)) for part in wanted[1:]]
    return [min(wanted[0], count - sum(smaller)), *smaller]


def stratified(labels: Tensor, counts: Sequence[int], draw: torch.Generator) -> list[Tensor]:
    """Return disjoint indices for each of ``counts``, in which each class has its share to within one example.

    The members of each class are shuffled and spread evenly over one order, of which the parts are stretches; the last
    part takes what is left, at most its count.
    """
    order = torch.randperm(len(labels), generator=draw)
    places = torch.empty(len(labels), dtype=torch.float64)
    for label in range(int(labels.max()) + 1):
        members = order[labels[order] == label]
        places[members] = (torch.arange(len(members)) + torch.rand((), generator=draw)).double() / max(len(members), 1)
    return list(
        places.argsort(stable=True)[: sum(counts)].tensor_split(torch.tensor(counts[:-1], dtype=torch.int64).cumsum(0))
    )
