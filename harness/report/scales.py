"""The axes of a drawing on paper: where a value lies, and which values are marked."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_PADDING: Final = 0.05
"""The part of an axis beyond the outermost values, on either side."""

_MARKS: Final = 6
"""About how many values are marked."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis from ``low`` to ``high``, in powers of ten where it is logarithmic, with the texts of its marks.

    The values of ``categories`` lie at 0, 1, 2 and so on.
    """

    low: float
    high: float
    logarithmic: bool
    marks: tuple[tuple[float, str], ...]
    title: str
    categories: tuple[str, ...] = field(default=())

    def place(self, value: Any) -> float:
        """Return where a value lies, from 0 at ``low`` to 1 at ``high``; outside of these beyond the ends."""
        return (self._raw(value) - self.low) / (self.high - self.low)

    def _raw(self, value: Any) -> float:
        if self.categories:
            return float(self.categories.index(value)) if value in self.categories else float(value)
        if self.logarithmic:
            return math.log10(value) if value > 0 else self.low  # the end of an interval that has no place
        return float(value)


def scale_of(axis: Mapping[str, Any], values: Sequence[Any]) -> Scale:
    """Return the scale of one of Plotly's axes on which ``values`` are drawn."""
    title = html.unescape(axis.get("title", {}).get("text", ""))
    if axis.get("type") == "category":
        names = tuple(dict.fromkeys([*axis.get("categoryarray", ()), *values]))
        low, high = axis.get("range", (-0.5, len(names) - 0.5))
        marks = tuple((float(place), html.unescape(name)) for place, name in enumerate(names))
        return Scale(low=low, high=high, logarithmic=False, marks=marks, title=title, categories=names)
    logarithmic = axis.get("type") == "log"
    shown = [math.log10(value) if logarithmic else float(value) for value in values if not logarithmic or value > 0]
    low, high = axis.get("range") or _padded(shown)
    if axis.get("tickmode") == "array":
        given = zip(axis["tickvals"], map(html.unescape, axis["ticktext"]), strict=True)
    elif logarithmic:
        given = zip(*_powers(low, high), strict=True)
    else:
        given = zip(*_steps(min(low, high), max(low, high)), strict=True)
    within = [
        (place, text)
        for value, text in given
        if min(low, high) <= (place := math.log10(value) if logarithmic else float(value)) <= max(low, high)
    ]
    return Scale(low=low, high=high, logarithmic=logarithmic, marks=_apart(within, high - low), title=title)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis on which all values have room."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        return low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    return low - _PADDING * (high - low), high + _PADDING * (high - low)


def _steps(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return the multiples of a round step between two values, and their texts."""
    rough = (high - low) / _MARKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    places = max(0, -math.floor(math.log10(step))) + (1 if round(step / power, 1) == 2.5 else 0)
    values = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return values, [f"{value if round(value, places) else 0.0:.{places}f}" for value in values]


def _powers(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return the round values between two powers of ten: more of each power where there are few of these."""
    factors = (1,) if high - low > 3 else (1, 2, 5) if high - low > 0.8 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    values = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in factors]
    return values, [f"{value:g}" for value in values]


def _apart(marks: Sequence[tuple[float, str]], length: float) -> tuple[tuple[float, str], ...]:
    """Return the marks without those that are closer to the one before than a fiftieth of the axis."""
    kept: list[tuple[float, str]] = []
    for place, text in marks:
        if not kept or abs(place - kept[-1][0]) >= abs(length) / 50:
            kept.append((place, text))
    return tuple(kept)
