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
WHOLE: Final = 4
"""Rows that are shorter than a vector, and rows of whole blocks, which are drawn beside the others."""

MOST_ROWS: Final = 9
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

    There is one for every remainder of a row's length divided by `VECTOR`, `SHORT` that are shorter, and `WHOLE` whose
    rows are whole blocks.
    """
    draw = generator(seed, "shapes")

    def pick(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=draw))

    lengths = [VECTOR * pick(1, LONGEST) + rest for rest in range(VECTOR)]
    lengths += [pick(1, VECTOR - 1) for _ in range(SHORT)]
    if 0 < block <= LONGEST_BLOCK:
        lengths += [block * pick(1, LONGEST) for _ in range(WHOLE)]
    known = list(layouts.LAYOUTS)
    weights = [
        Drawn(
            seed=seed,
            number=number,
            rows=pick(1, MOST_ROWS),
            columns=columns,
            dtype=DTYPES[pick(0, len(DTYPES) - 1)],
            inputs=pick(1, MOST_ROWS),
            inputs_dtype=DTYPES[pick(0, len(DTYPES) - 1)],
            layout=known[pick(0, len(known) - 1)],
        )
        for number, columns in enumerate(lengths)
    ]
    return sorted(weights, key=lambda weight: (weight.columns, weight.rows))
