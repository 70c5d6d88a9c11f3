"""The workload of the contract ``softmax``: rows of float32 in the cache, out of it, and larger than the cache."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.api import CaseContext, Json, NotApplicable, OpenCase, Outcome
from harness.families.softmax.checks import EPSILON, defined, relative_error, require_correct
from harness.families.softmax.contract import SoftmaxTechnique
from harness.families.softmax.settings import Settings
from harness.families.softmax.timing import WINDOW, Timing
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
        return Timing(technique, settings, *self._long_row(settings, context.seed)).trial()

    def _long_row(self, settings: Settings, seed: int) -> tuple[Tensor, Tensor]:
        """Return input and output of a case, allocated once for all openings of the case."""
        size = machine.copied_bytes(times_cache=settings.times_cache) // 4
        size = max(size, settings.rows * settings.columns, settings.cached_columns + WINDOW)
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


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Rows,)
    _STACKS: tuple[type[StackingWorkload], ...] = (Rows,)
