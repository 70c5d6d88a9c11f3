"""The family ``softmax``: the softmax of rows in the cache and out of it, by error and by passes over memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.softmax.settings import Settings
from harness.judge.metrics import higher, lower, share
from harness.judge.settings import defaults_of

HARNESS_API = 1

_PHASES: Final = {
    "long_row": "a row as large as four last-level caches, if memory allows",
    "cold_rows": "rows that are read from memory, each of which fits into the cache",
    "cached_row": "a row that stays in the cache",
}

_WORKLOADS: Final = (
    WorkloadSpec(
        id="rows",
        contract="softmax",
        target="harness.families.softmax.workloads:Rows",
        summary="softmax of float32 rows, in the cache and out of it: error, and how near the limits of memory",
        version=1,
        metrics=("relative_error", "relative_error_wide", "relative_error_long", "relative_error_uneven", "sum_error"),
        phases=tuple(_PHASES),
        settings=defaults_of(Settings),
        small={"rows": 8, "sample_rows": 4, "long_columns": 1 << 12, "times_cache": 1},
        stacks=True,
        preload=(),
    ),
)

_METRICS: Final = (
    lower(
        "relative_error",
        "eps",
        "largest relative error of a probability, in units of 2^-23, of rows of 4096 normal numbers",
    ),
    lower(
        "relative_error_wide",
        "eps",
        "largest relative error of a probability, of normal numbers of standard deviation 20",
    ),
    lower(
        "relative_error_long", "eps", "largest relative error of a probability, of a row of two million normal numbers"
    ),
    lower(
        "relative_error_uneven",
        "eps",
        "largest relative error of a probability, of a row of two million numbers where one is e^18 times as probable",
    ),
    lower("sum_error", "eps", "largest difference of a row's sum from 1"),
    higher("long_row_rate", "GB/s", "what the technique's passes move, on a row that fits into no cache", "time"),
    share("long_row_share", "share of the time that the passes would take at the rates of reading and copying"),
    higher("cold_rows_rate", "GB/s", "numbers read and probabilities written, of rows that are cold", "time"),
    share("cold_rows_share", "cold_rows_rate as a share of the rate of copying"),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="softmax",
            protocol="harness.families.softmax.contract:SoftmaxTechnique",
            summary="the softmax of rows of float32, with a stated number of passes over memory",
            phases=_PHASES,
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare the problems of this family."""
    return _WORKLOADS


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Declare what this family measures beyond the metrics that are shared."""
    return _METRICS


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suites of this family."""
    return suites_of("softmax")
