"""Numbers as people read them: sizes, counts, rates, durations."""

from __future__ import annotations

import math
from collections.abc import Iterable

MIB = 2**20

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("", "k", "M", "G", "T")

_LARGEST = 1e12
"""From this size on a number of fixed decimals is written with an exponent: nobody counts more than twelve digits."""


def size(bytes_: float) -> str:
    """Return bytes in the binary unit that fits: '512 B', '1.9 MiB'."""
    value, unit = _scaled(bytes_, 1024, _BINARY)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def mebibytes(bytes_: float) -> str:
    """Return bytes as a number of MiB, for a column in MiB: '1.9', '0.03', '1250'; below a KiB '0.00'."""
    value = bytes_ / MIB
    if 0 < abs(value) < 1 / 1024:
        return "0.00"
    if abs(value) < 0.095:
        return significant(value, 1)
    return f"{value:.1f}" if abs(value) < 999.95 else f"{value:.0f}"


def count(number: float) -> str:
    """Return a count as text: '0', '950', '69.2k', '1.2M'."""
    value, unit = _scaled(number, 1000, _DECIMAL)
    return f"{value:.1f}{unit}" if unit or not float(value).is_integer() else f"{value:.0f}"


def rate(number: float) -> str:
    """Return a rate with about three digits: '5.12', '512', '5120', '51.2k'."""
    if abs(number) >= 10_000:
        value, unit = _scaled(number, 1000, _DECIMAL)
        return f"{significant(value, 3)}{unit}"
    return significant(number, 3) if abs(number) < 1000 else f"{number:.0f}"


def duration(seconds: float) -> str:
    """Return seconds in the units that fit: '3.2 ms', '4.5 s', '2 min 5 s', '3 h 20 min'."""
    if not math.isfinite(seconds):
        return "-"
    for scale, unit in ((1e-6, "µs"), (1e-3, "ms")):
        if abs(seconds) < scale * 999.5:
            return f"{significant(seconds / scale, 2)} {unit}"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def ratio(value: float) -> str:
    """Return a ratio to the baseline as text, with at least two significant digits: 'x0.98', 'x12.5', 'x0.0042'."""
    if 0.0995 <= abs(value) < 9.995:
        return f"x{value:.2f}"
    return f"x{significant(value, 3 if abs(value) > 1 else 2)}"


def ratio_places(value: float) -> int:
    """Return the decimals of a ratio that stands beside its interval: two, or as many as its size asks for."""
    if value == 0 or not math.isfinite(value) or 0.0995 <= abs(value) < 9.995:
        return 2
    return min(6, max(0, (2 if abs(value) > 1 else 1) - math.floor(math.log10(abs(value)))))


def amount(value: float, unit: str) -> str:
    """Return a number with its unit, which may be empty: '0.05 nats', '2 points', '1 point', '0.002'."""
    return f"{value:g} {'point' if (value, unit) == (1, 'points') else unit}".rstrip()


def fixed(value: float, places: int, *, signed: bool = False) -> str:
    """Return a number with so many decimals: '-5.1', '+0.02'; with an exponent where it is too large to be read."""
    form = f".{places}f" if not math.isfinite(value) or abs(value) < _LARGEST else ".2e"
    return f"{value:{'+' if signed else ''}{form}}"


def significant(value: float, digits: int) -> str:
    """Return a number with ``digits`` significant digits, without an exponent where its size is readable."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 <= magnitude <= 9:
        return f"{value:.{digits - 1}e}"
    rounded = round(value, digits - 1 - magnitude)
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def decimals(spreads: Iterable[float], values: Iterable[float]) -> int:
    """Return the decimals of a column: two digits of the median spread, or three of the median value."""
    for numbers, digits in ((spreads, 2), (values, 3)):
        sizes = sorted(abs(number) for number in numbers if math.isfinite(number) and number != 0)
        if sizes:
            return min(6, max(0, digits - 1 - math.floor(math.log10(sizes[len(sizes) // 2]))))
    return 0


def _scaled(number: float, step: int, units: tuple[str, ...]) -> tuple[float, str]:
    """Return the number in the largest unit in which the rounded number is at least one."""
    value = float(number)
    for unit in units[:-1]:
        if abs(value) < step - 0.05:
            return value, unit
        value /= step
    return value, units[-1]
