"""The timed calls of ``softmax``: no call has the numbers that a call before had, and outputs are verified in full.

Rows of different calls overlap where they have to stay in the cache, and lie where an earlier call wrote probabilities.
So each call begins by a change of a few numbers at random places: what a technique kept of a row is wrong there, and to
find the place it would have to read as much as it is asked to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from random import Random, SystemRandom
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect, OpenCase, Phase
from harness.families.softmax.checks import TOLERANCE
from harness.families.softmax.contract import SoftmaxTechnique
from harness.families.softmax.settings import Settings
from harness.judge import machine
from harness.judge.fresh import Noise

STEP: Final = 16
"""Floats between two places at which the row in the cache begins: 64 bytes, so that all are aligned alike."""

PLACES: Final = 512
"""Places at which the row in the cache begins, one after the other: more than a sample has calls."""

WINDOW: Final = STEP * PLACES
"""Floats that follow the row in the cache."""

TILE: Final = 1 << 18
"""Floats of the long row that are drawn anew after each sample."""

CHANGED: Final = 4
"""Numbers that a call out of the cache changes; the row in the cache is short, and one has to do there."""

VALUES: Final = 1024
"""Normal numbers that are ready to take the place of others."""

CHUNK: Final = 1 << 20
"""Floats that are verified at once."""

ROUNDED: Final = 2 * TOLERANCE
"""Largest relative error of a timed probability: the gate's, and as much again for a definition in float32.

There the rounding of a difference of two normal numbers, at most 16, and of its exponential make 2e-6.
"""

SUMMED: Final = 4 * 2.0**-24
"""What a sum in float32 may be off by too, times the root of its length: four standard deviations of its roundings.

Torch's own softmax adds a row up in a few sums side by side: 33 million probabilities are off by 8e-5. Who leaves out
so small a part of a row gains nothing by it.
"""


class Timing:
    """The timed calls of a technique, on the judge's inputs and outputs; any further memory is the technique's own."""

    def __init__(self, technique: SoftmaxTechnique, settings: Settings, x: Tensor, out: Tensor) -> None:
        self._technique = technique
        self._settings = settings
        self._long, self._long_out = x, out
        self._window = x[: settings.cached_columns + WINDOW]
        self._cached_out = out[: settings.cached_columns][None]
        self._calls = 0
        self._turn = 0
        self._used: set[int] = set()
        self._probes = {"read": machine.Probe(self._read), "copy": machine.Probe(self._copy)}
        self._random = Random(SystemRandom().getrandbits(128)).random

    @cached_property
    def _numbers(self) -> memoryview[float]:
        """The numbers of the long row, to be changed singly in a tenth of a microsecond, which no tensor allows."""
        return self._long.numpy().data.cast("B").cast("f")

    @cached_property
    def _values(self) -> list[float]:
        draw = torch.Generator().manual_seed(int(2**62 * self._random()))
        return [float(value) for value in torch.randn(VALUES, generator=draw)]

    def _change(self, begin: int, size: int, count: int = CHANGED) -> None:
        """Change numbers at random places among the ``size`` ones from ``begin`` on."""
        numbers, values, random = self._numbers, self._values, self._random
        for _ in range(count):
            numbers[begin + int(size * random())] = values[int(VALUES * random())]

    @cached_property
    def _changes(self) -> list[tuple[int, float]]:
        """The change that each call of the row in the cache begins with; found before, as such a call is short."""
        return [
            (begin + int(self._settings.cached_columns * self._random()), self._values[int(VALUES * self._random())])
            for begin in self._places
        ]

    @cached_property
    def _places(self) -> list[int]:
        """Where the rows in the cache begin, in random order."""
        places = [STEP * place for place in range(PLACES)]
        SystemRandom().shuffle(places)
        return places

    @cached_property
    def _cached(self) -> list[Tensor]:
        """The rows in the cache; made by the first call, as the build is timed."""
        return [self._long[place : place + self._settings.cached_columns][None] for place in self._places]

    @cached_property
    def _noise(self) -> Noise:
        return Noise(max(TILE, len(self._window), self._settings.rows * self._settings.columns))

    def trial(self) -> OpenCase:
        """Return the phases, probes and figures of the case."""
        cold = self._settings.rows * self._settings.columns
        cached = self._settings.cached_columns
        phases = {
            "long_row": Phase(
                run=self._long_row, samples=len(self._long), verify=self._verify_long, refresh=self._refresh_long
            ),
            "cold_rows": Phase(run=self._cold_rows, samples=cold, verify=self._verify_cold, refresh=self._refresh_cold),
            "cached_row": Phase(
                run=self._cached_row, samples=cached, verify=self._verify_cached, refresh=self._refresh_cached
            ),
        }
        probes = {name: Phase(run=probe, samples=1) for name, probe in self._probes.items()}
        return OpenCase(phases=phases, probes=probes, figures=self._figures)

    def _read(self) -> float:
        """Read the same memory, as the machine's limit of reading."""
        return float(self._long.view(torch.int64).sum())

    def _copy(self) -> None:
        self._long_out.copy_(self._long)

    def _cached_row(self) -> Tensor:
        """Compute a row that begins at another place than in the calls before; return its input."""
        turn = self._calls % PLACES
        self._calls += 1
        x = self._cached[turn]
        place, value = self._changes[turn]
        self._numbers[place] = value
        self._technique.softmax(x, self._cached_out)
        return x

    def _verify_cached(self, x: Tensor) -> None:
        require_rows(x, self._cached_out)

    def _refresh_cached(self) -> None:
        self._noise.into(self._window)()
        self.__dict__.pop("_changes", None)
        _ = self._changes  # found anew, which no timed call has to wait for

    def _long_row(self) -> None:
        self._change(0, len(self._long))
        self._technique.softmax(self._long[None], self._long_out[None])

    def _verify_long(self, _: object) -> None:
        require_rows(self._long[None], self._long_out[None])

    def _refresh_long(self) -> None:
        begin = SystemRandom().randrange(max(1, len(self._long) - TILE))
        self._noise.into(self._long[begin : begin + TILE])()

    def _cold_rows(self) -> int:
        """Compute the next rows within the long row, which leave the cache before their next turn; return where."""
        size = self._settings.rows * self._settings.columns
        begin = self._turn * size
        self._turn = (self._turn + 1) % (len(self._long) // size)
        self._used.add(begin)
        self._change(begin, size)
        self._technique.softmax(*self._rows_at(begin))
        return begin

    def _rows_at(self, begin: int) -> tuple[Tensor, Tensor]:
        """Return the input and the output of rows that begin so many numbers into the long row."""
        size = self._settings.rows * self._settings.columns
        x, out = (row[begin : begin + size].view(-1, self._settings.columns) for row in (self._long, self._long_out))
        return x, out

    def _verify_cold(self, begin: int) -> None:
        require_rows(*self._rows_at(begin))

    def _refresh_cold(self) -> None:
        for begin in self._used:
            self._noise.into(self._rows_at(begin)[0])()
        self._used.clear()

    def _shares(self, seconds: Mapping[str, float], limit: Mapping[str, float]) -> dict[str, float]:
        """Return in per cent how much of the time the machine needs to move the bytes, by the seconds of the probes."""
        passes = self._technique.passes
        least = 8 * self._settings.rows * self._settings.columns
        long_row = passes.reading * limit["read"] + passes.copying * limit["copy"]
        cold_rows = least * limit["copy"] / (8 * len(self._long))
        return {
            "long_row_share": 100 * long_row / seconds["long_row"],
            "cold_rows_share": 100 * cold_rows / seconds["cold_rows"],
        }

    def _figures(self, rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return rates in GB/s, and their shares in per cent of the machine's rates in the same rounds."""
        seconds = {name: machine.median(values) for name, values in rounds.items()}
        numbers, passes = len(self._long), self._technique.passes
        least = 8 * self._settings.rows * self._settings.columns
        fastest = {name: probe.least(rounds[name]) for name, probe in self._probes.items()}
        machine.require_possible(self._shares(seconds, fastest))
        return {
            "read_rate": 4 * numbers / seconds["read"] / 1e9,
            "copy_rate": 8 * numbers / seconds["copy"] / 1e9,
            "long_row_rate": passes.bytes * numbers / seconds["long_row"] / 1e9,
            "cold_rows_rate": least / seconds["cold_rows"] / 1e9,
            **self._shares(seconds, seconds),
        }


def require_rows(x: Tensor, out: Tensor) -> None:
    """Raise Incorrect where an output ``(rows, n)`` is not the softmax of normal numbers ``x``; NaN counts as wrong.

    Sums are taken in float64 and the rest in float32, which is exact enough for numbers of a normal distribution.
    """
    allowed = ROUNDED + SUMMED * x.shape[1] ** 0.5
    largest = x.amax(1, keepdim=True)
    chunks = [slice(start, start + CHUNK) for start in range(0, x.shape[1], CHUNK)]
    total = sum((x[:, chunk] - largest).exp_().sum(1, keepdim=True, dtype=torch.float64) for chunk in chunks)
    scale = (1 / torch.as_tensor(total)).float()
    for chunk in chunks:
        exact = (x[:, chunk] - largest).exp_().mul_(scale)
        right = (out[:, chunk] - exact).abs_() <= exact.mul_(allowed).add_(torch.finfo(torch.float32).tiny)
        if not bool(right.all()):
            wrong = int((~right).sum())
            raise Incorrect(f"{wrong:,} of {right.numel():,} probabilities are not those of the definition")
