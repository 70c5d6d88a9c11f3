"""Orders the trials of a tuning by one rule, wherever the best of them is chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from harness.api import Json


def mean_of(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value, also where the sum is beyond the largest number."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def grid_order(tuned: Mapping[str, Json]) -> list[tuple[bool, float, str]]:
    """Return the sort key of tuned values in the order of the grid: numbers first, by size, then other values."""
    return [_order(tuned[name]) for name in sorted(tuned)]


def preference(mean: float, *, absent: int, higher_is_better: bool) -> tuple[int, float]:
    """Return the sort key of a trial, of which the least is chosen, and of equal trials the first of the grid.

    ``mean`` is that of the metric that selects, over the seeds with a value; ``absent`` counts those without one. A
    trial that lacks fewer values is preferred, whatever its mean.
    """
    return absent, -mean if higher_is_better else mean


def as_number(value: Json) -> float | None:
    """Return an int or a float as a float, and None for any other value, booleans included."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _order(value: Json) -> tuple[bool, float, str]:
    number = as_number(value)
    return (number is None, number or 0.0, json.dumps(value, sort_keys=True))
