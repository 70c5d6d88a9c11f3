"""Computes how many seeds a run looks at before it decides: what ``[sequential]`` and ``--until`` ask for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.api import UsageError

LOOKS: Final = (5, 10, 15, 20)
"""The numbers of seeds after which comparisons are decided, where a suite names none."""

DECIDED: Final = "decided"

MOST_SEEDS: Final = 1000
"""The most seeds that may be asked for."""

_SECONDS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST_S: Final = 366 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Until:
    """How long a run takes further seeds for what is undecided.

    ``seeds`` is the largest number of seeds, None where the looks of the suite say it; after ``seconds`` no further
    seeds are begun. ``text`` is what the user wrote.
    """

    text: str
    seeds: int | None = None
    seconds: float = math.inf


def parse_until(text: str) -> Until:
    """Return the meaning of ``--until``: ``decided``, a number of seeds like 20, or a time like 10min.

    Raises UsageError for anything else.
    """
    if text == DECIDED:
        return Until(text=text)
    if match := re.fullmatch(r"(\d{1,9})", text, re.ASCII):
        seeds = int(match[1])
        if 2 <= seeds <= MOST_SEEDS:
            return Until(text=text, seeds=seeds)
    elif match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|min|h)", text, re.ASCII):
        seconds = float(match[1]) * _SECONDS[match[2]]
        if 0 < seconds <= _LONGEST_S:
            return Until(text=text, seconds=seconds)
    raise UsageError(
        f"--until {text!r}: expected decided, a number of seeds from 2 to {MOST_SEEDS}, or a time like 90s, 10min or 1h"
    )


def looks_of(first: int, until: Until | None, of_suite: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of seeds after which comparisons are decided, the ``first`` ones included.

    ``of_suite`` are those that the suite names. The result is empty where there is one look only. Raises UsageError
    where ``until`` asks for no more seeds than the first ones.
    """
    if until is None:
        return tuple(of_suite)
    every = [seeds for seeds in of_suite or LOOKS if seeds > first]
    if until.seeds is not None:
        if until.seeds <= first:
            raise UsageError(
                f"--until {until.text}: {first} seeds are run anyway; expected more, or --seeds {until.text}"
            )
        every = [*(seeds for seeds in every if seeds < until.seeds), until.seeds]
    return (first, *every) if every else ()


def further_seeds(first: Sequence[int], count: int) -> tuple[int, ...]:
    """Return ``count`` seeds that begin with the ``first`` ones and go on with the smallest that are not among them."""
    chosen = list(first)[:count]
    known, candidate = set(first), 0
    while len(chosen) < count:
        if candidate not in known:
            chosen.append(candidate)
        candidate += 1
    return tuple(chosen)
