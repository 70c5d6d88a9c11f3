"""Weights of shapes that the gate draws anew for every seed, and the weight of the shape that is timed.

Kernels take 16, 32 or 64 numbers at a time and treat the end of a row or of a block apart. A fixed list of shapes would
miss an error there, and could be learnt by heart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch

from harness.families.quantize import layouts
from harness.families.quantize.products import DTYPES, shown
from harness.families.quantize.reports import Given
from harness.judge.seeds import generator

VECTOR: Final = 64
"""Numbers that the widest kernels take at a time: every remainder of a row's length divided by it is tried."""

LONGEST: Final = 4
"""A drawn row has at most so many whole vectors, and a part of one."""

SHORT: Final = 8
"""Weights with rows that are shorter than a vector, which are drawn beside the others."""

TILE: Final = 32
"""Rows that the widest kernels take at a time: every remainder of the number of rows divided by it is tried.

It is tried twice: with rows of whole blocks, as many kernels take no others, and with rows of any length.
"""

INPUTS: Final = 16
"""Inputs that kernels take at a time, at most: every remainder of their number divided by it is tried."""

LONGEST_BLOCK: Final = 256
"""Rows of whole blocks are drawn for blocks up to this length."""

OFFSETS: Final = 4
"""A drawn weight begins fewer numbers than this after an aligned address."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A drawn weight, and the inputs that are multiplied with it: their number, dtype and layout."""

    seed: int
    number: int
    rows: int
    columns: int
    dtype: torch.dtype
    inputs: int
    inputs_dtype: torch.dtype
    layout: str

    @property
    def weight(self) -> Given:
        """The weight."""
        shape = self.rows, self.columns
        return Given(
            what=f"{shown(shape, self.dtype)} (drawn with seed {self.seed})",
            code=layouts.weights(shape, self.number, self.dtype, self.number % OFFSETS),
        )

    @property
    def x(self) -> Given:
        """The inputs."""
        return layouts.inputs(self.layout, self.inputs, self.columns, self.inputs_dtype, seed=self.number + 1)

    def smaller(self) -> Iterator[Drawn]:
        """Yield the same with fewer rows and fewer inputs, the fewest first."""
        for rows in range(1, self.rows + 1):
            yield replace(self, rows=rows, inputs=min(self.inputs, rows))


def drawn(block: int, seed: int) -> list[Drawn]:
    """Return weights for a block length, the shortest rows first.

    There is one for every remainder of a row's length divided by `VECTOR`, `SHORT` that are shorter, and `TILE` whose
    rows are whole blocks.
    """
    draw = generator(seed, "shapes")

    def pick(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=draw))

    lengths = [VECTOR * pick(1, LONGEST) + rest for rest in range(VECTOR)]
    lengths += [pick(1, VECTOR - 1) for _ in range(SHORT)]
    if 0 < block <= LONGEST_BLOCK:
        lengths += [block * pick(1, 1 + VECTOR * LONGEST // block) for _ in range(TILE)]
    rows, inputs = _each(TILE, len(lengths), draw), _each(INPUTS, len(lengths), draw)
    known = list(layouts.LAYOUTS)
    weights = [
        Drawn(
            seed=seed,
            number=number,
            rows=rows[number],
            columns=columns,
            dtype=DTYPES[pick(0, len(DTYPES) - 1)],
            inputs=inputs[number],
            inputs_dtype=DTYPES[pick(0, len(DTYPES) - 1)],
            layout=known[pick(0, len(known) - 1)],
        )
        for number, columns in enumerate(lengths)
    ]
    return sorted(weights, key=lambda weight: (weight.columns, weight.rows))


def _each(most: int, count: int, draw: torch.Generator) -> list[int]:
    """Return numbers from 1 to ``most``, each as often as the others: every run of ``most`` from the last has all."""
    shuffled = [1 + int(number) for number in torch.randperm(most, generator=draw)]
    return [shuffled[(number - count) % most] for number in range(count)]
