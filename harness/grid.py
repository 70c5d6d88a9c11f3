"""Makes the trials of a tuning: all combinations of the values to try, thinned to an equal number for everybody."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from harness.api import Json

Tuned = Mapping[str, Json]
"""The settings or parameters one trial tries."""


def grid_of(space: Mapping[str, Sequence[Json]], fixed: Mapping[str, Json]) -> list[Tuned]:
    """Return the combinations of the values of all names that are not fixed."""
    keys = [key for key in space if key not in fixed]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(space[key] for key in keys))]


def thin(trials: Sequence[Tuned], budget: int) -> tuple[Tuned, ...]:
    """Return at most ``budget`` evenly spaced trials, the first and the last included."""
    if len(trials) <= budget:
        return tuple(trials)
    if budget == 1:
        return (trials[len(trials) // 2],)
    return tuple(trials[round(step * (len(trials) - 1) / (budget - 1))] for step in range(budget))
