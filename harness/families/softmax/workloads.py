"""The workload of the contract ``softmax``: rows of float32 in the cache, out of it, and larger than the cache."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.api import CaseContext, Json, NotApplicable, OpenCase, Outcome, Phase
from harness.families.softmax.checks import EPSILON, defined, relative_error, require_correct
from harness.families.softmax.contract import SoftmaxTechnique
from harness.families.softmax.settings import Settings
from harness.judge import machine
from harness.judge.seeds import generator
from harness.judge.settings import read_settings


class Rows:
    """A `harness.api.StackingWorkload`: errors against float64, and times of rows of three sizes."""

    def __init__(self) -> None:
        self._memory: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Do nothing: no data are shared between cases."""

    def check(self, technique: SoftmaxTechnique, context: CaseContext) -> None:  # noqa: ARG002  the same on every seed
        """Run the correctness gate. Raises Incorrect at the first failure."""
        require_correct(technique)

    def evaluate(self, technique: SoftmaxTechnique, context: CaseContext) -> Outcome:
        """Run the gate, then measure errors. Raises Incorrect where the gate fails, NotApplicable on a GPU."""
        return self.evaluate_stacked([technique], [context])[0]

    def evaluate_stacked(
        self, techniques: Sequence[SoftmaxTechnique], contexts: Sequence[CaseContext]
    ) -> list[Outcome]:
        """Return the outcome of `evaluate` for each technique and context; seeds share nothing but the gate."""
        _require_processor(contexts[0])
        with contexts[0].phase("check"):
            require_correct(techniques[0])
        with contexts[0].phase("measure"):
            return [_measured(technique, context) for technique, context in zip(techniques, contexts, strict=True)]

    def open(self, technique: SoftmaxTechnique, context: CaseContext) -> OpenCase:
        """Prepare rows in the cache, cold rows and a row larger than it, with reading and copying as probes."""
        _require_processor(context)
        settings = read_settings(Settings, context.settings)
        return _Timing(technique, settings, *self._long_row(settings, context.seed)).trial()

    def _long_row(self, settings: Settings, seed: int) -> tuple[Tensor, Tensor]:
        """Return input and output of a case, allocated once for all openings of the case."""
        size = min(settings.times_cache * machine.cache_bytes(), machine.MOST_COPIED) // 4
        size = max(size, settings.rows * settings.columns, settings.cached_columns)
        size += size % 2  # two numbers are read at a time
        if (size, seed) not in self._memory:
            drawn = torch.randn(1 << 20, generator=generator(seed, "long"))
            row, out = _in_huge_pages(size), _in_huge_pages(size)
            row.copy_(drawn.repeat(-(-size // len(drawn)))[:size])
            self._memory[size, seed] = row, out.zero_()
        return self._memory[size, seed]


def _in_huge_pages(size: int) -> Tensor:
    """Return uninitialised float32 ``(size,)``, in huge pages where Linux grants them.

    The placement of small pages differs between processes, and changes the time of the same code by a tenth.
    """
    row = torch.empty(size)
    if sys.platform == "linux":
        begin = row.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        length = row.data_ptr() + 4 * size - begin
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)  # advice only
    return row


def _require_processor(context: CaseContext) -> None:
    if context.device != "cpu":
        raise NotApplicable(f"softmax is computed on the processor, not on {context.device}")


def _measured(technique: SoftmaxTechnique, context: CaseContext) -> Outcome:
    settings = read_settings(Settings, context.settings)
    draw = generator(context.seed, "rows")
    normal = torch.randn(settings.sample_rows, settings.sample_columns, generator=draw)
    samples = {
        "relative_error": normal,
        "relative_error_wide": 20 * normal,
        "relative_error_long": torch.randn(1, settings.long_columns, generator=draw),
        "relative_error_uneven": _uneven(settings.long_columns),
    }
    errors, sums = {}, []
    for name, x in samples.items():
        out = torch.empty_like(x)
        technique.softmax(x, out)
        errors[name] = relative_error(out, defined(x))
        sums.append(float((out.double().sum(1) - 1).abs().max()) / EPSILON)
    return Outcome(metrics={**errors, "sum_error": max(sums)})


def _uneven(columns: int) -> Tensor:
    """Return one large number before many small ones, whose exponentials are lost where float32 adds them to 1."""
    row = torch.full((1, columns), -18.0)
    row[0, 0] = 0
    return row


class _Timing:
    """The timed calls of a technique, on the judge's inputs and outputs; any further memory is the technique's own."""

    def __init__(self, technique: SoftmaxTechnique, settings: Settings, x: Tensor, out: Tensor) -> None:
        self._technique = technique
        self._settings = settings
        self._long, self._long_out = x, out
        self._cached, self._cached_out = (row[: settings.cached_columns][None] for row in (x, out))
        self._turn = 0

    def trial(self) -> OpenCase:
        """Return the phases, probes and figures of the case."""
        phases = {
            "long_row": Phase(run=self._long_row, samples=len(self._long)),
            "cold_rows": Phase(run=self._cold_rows, samples=self._settings.rows * self._settings.columns),
            "cached_row": Phase(run=self._cached_row, samples=self._cached.numel()),
        }
        probes = {"read": Phase(run=self._read, samples=1), "copy": Phase(run=self._copy, samples=1)}
        return OpenCase(phases=phases, probes=probes, figures=self._figures)

    def _read(self) -> float:
        """Read the same memory, as the machine's limit of reading."""
        return float(self._long.view(torch.int64).sum())

    def _copy(self) -> None:
        self._long_out.copy_(self._long)

    def _cached_row(self) -> None:
        self._technique.softmax(self._cached, self._cached_out)

    def _long_row(self) -> None:
        self._technique.softmax(self._long[None], self._long_out[None])

    def _cold_rows(self) -> None:
        """Compute the next rows within the long row, which leave the cache before their next turn."""
        size = self._settings.rows * self._settings.columns
        begin = self._turn * size
        self._turn = (self._turn + 1) % (len(self._long) // size)
        x, out = (row[begin : begin + size].view(-1, self._settings.columns) for row in (self._long, self._long_out))
        self._technique.softmax(x, out)

    def _figures(self, rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return rates in GB/s, and their shares in per cent of the machine's rates in the same rounds."""
        seconds = {name: machine.median(values) for name, values in rounds.items()}
        numbers, passes = len(self._long), self._technique.passes
        copy = 8 * numbers / seconds["copy"]
        limit = passes.reading * seconds["read"] + passes.copying * seconds["copy"]
        least = 8 * self._settings.rows * self._settings.columns
        return {
            "read_rate": 4 * numbers / seconds["read"] / 1e9,
            "copy_rate": copy / 1e9,
            "long_row_rate": passes.bytes * numbers / seconds["long_row"] / 1e9,
            "long_row_share": 100 * limit / seconds["long_row"],
            "cold_rows_rate": least / seconds["cold_rows"] / 1e9,
            "cold_rows_share": 100 * least / copy / seconds["cold_rows"],
        }


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Rows,)
    _STACKS: tuple[type[StackingWorkload], ...] = (Rows,)
