"""The kinds of values that options of ``harness run`` take: bytes with a unit, and seconds."""

from __future__ import annotations

from typing import Any

import click

_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}

_MOST_BYTES = 2**63 - 1
_LONGEST_S = 366 * 86_400.0
"""The largest limits of a case that the system takes."""


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A number of bytes, with or without a unit."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes that a text says."""
        if isinstance(value, int):
            return value
        text = value.strip()
        number = text.rstrip("BKMGibkmg ")
        unit = text[len(number) :].strip().upper()
        try:
            size = int(float(number) * _UNITS[unit])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"{value!r}: expected bytes, like 2000000000, 500MiB or 2GiB", param, ctx)
        if not 0 < size <= _MOST_BYTES:
            self.fail(f"{value!r}: expected more than 0 bytes, at most 8 EiB", param, ctx)
        return size


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A number of seconds that a clock can wait: neither infinite nor NaN."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds that a text says."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= _LONGEST_S:  # false for NaN, too
            self.fail(f"{value!r}: expected seconds, more than 0, at most {_LONGEST_S:.0f} (a year)", param, ctx)
        return seconds
