"""What the judge of ``softmax`` offers, declared without importing torch."""

from __future__ import annotations

from typing import Final

from harness.api import Metric, WorkloadSpec

_PHASES: Final = {
    "long_row": "a row four times as large as the last-level cache",
    "cold_rows": "rows that are read from memory, each of which fits into the cache",
    "cached_row": "a row that stays in the cache",
}

SOFTMAX_WORKLOADS: Final = (
    WorkloadSpec(
        id="rows",
        contract="softmax",
        target="harness.workloads.softmax:Rows",
        summary="softmax of float32 rows, in the cache and out of it: error, and how near the limits of memory",
        version=1,
        metrics=("relative_error", "relative_error_wide", "relative_error_long", "relative_error_uneven", "sum_error"),
        phases=tuple(_PHASES),
        settings={
            "sample_rows": 64,
            "sample_columns": 4096,
            "long_columns": 1 << 21,
            "cached_columns": 1 << 15,
            "rows": 256,
            "columns": 4096,
            "times_cache": 4,
        },
        stacks=True,
        preload=(),
    ),
)


def _error(id_: str, summary: str) -> Metric:
    return Metric(id=id_, unit="eps", higher_is_better=False, lane="accuracy", summary=summary)


def _rate(id_: str, unit: str, summary: str) -> Metric:
    return Metric(id=id_, unit=unit, higher_is_better=True, lane="time", summary=summary)


def _of_phase(phase: str, what: str) -> tuple[Metric, ...]:
    peaks = {"tensor": "bytes of live tensors", "process": "bytes taken from the system"}
    return (
        Metric(id=f"{phase}_time", unit="s", higher_is_better=False, lane="time", summary=f"median of {what}"),
        _rate(f"{phase}_throughput", "samples/s", f"numbers a second of {what}"),
        *(
            Metric(
                id=f"{phase}_{kind}_peak",
                unit="B",
                higher_is_better=False,
                lane="memory",
                summary=f"{text} at the peak of {what}, input and output included",
            )
            for kind, text in peaks.items()
        ),
    )


SOFTMAX_METRICS: Final = (
    _error("relative_error", "largest error of a probability relative to it, in 2^-23, of 4096 normal numbers a row"),
    _error("relative_error_wide", "the same, numbers of standard deviation 20"),
    _error("relative_error_long", "the same, of a row of two million normal numbers"),
    _error(
        "relative_error_uneven", "the same, of as long a row where one number is e^18 times as probable as the others"
    ),
    _error("sum_error", "largest difference of a row's sum from 1"),
    *(metric for phase, what in _PHASES.items() for metric in _of_phase(phase, what)),
    _rate("long_row_rate", "GB/s", "what the technique's passes move, on a row that fits into no cache"),
    _rate("long_row_share", "%", "time that its passes take at the rates of reading and copying, of the time taken"),
    _rate("cold_rows_rate", "GB/s", "numbers read and probabilities written, of rows that are cold"),
    _rate("cold_rows_share", "%", "the same of the rate of copying"),
)
