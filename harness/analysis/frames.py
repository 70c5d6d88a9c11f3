"""The results of a run as a typed table, for pandas and Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from harness.api import DISTRIBUTION, UsageError

if TYPE_CHECKING:
    from harness.analysis.summary import Figure, TechniqueSummary
    from harness.api import Metric, RunInfo

By = Literal["technique", "seed"]
"""What a record is of: a metric of a technique, or that of one of the seeds behind it."""


class Table(Protocol):
    """The table of a workload, as `harness.analysis.view.WorkloadView` has it."""

    @property
    def workload(self) -> str:
        """The id of the workload."""

    @property
    def techniques(self) -> Sequence[TechniqueSummary]:
        """Its techniques."""


class View(Protocol):
    """What a table is made of, as `harness.analysis.view.RunView` has it."""

    @property
    def info(self) -> RunInfo:
        """The header of the run."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics by id."""

    @property
    def workloads(self) -> Sequence[Table]:
        """The tables."""

    @property
    def quality(self) -> Metric:
        """The metric that verdicts are made by."""


Kind = Literal["text", "truth", "whole", "number"]

_PLACE: Final[Mapping[str, Kind]] = {
    "run": "text",
    "suite": "text",
    "suite_version": "whole",
    "form": "text",
    "workload": "text",
    "technique": "text",
    "baseline": "truth",
    "metric": "text",
    "unit": "text",
    "lane": "text",
    "higher_is_better": "truth",
}

COLUMNS: Final[Mapping[By, Mapping[str, Kind]]] = {
    "technique": {
        **_PLACE,
        "value": "number",
        "low": "number",
        "high": "number",
        "n": "whole",
        "status": "text",
        "verdict": "text",
        "difference": "number",
        "difference_low": "number",
        "difference_high": "number",
        "pareto": "truth",
    },
    "seed": {**_PLACE, "seed": "whole", "value": "number"},
}
"""The columns and their types. Verdict and difference stand with the metric that the run is judged by only."""

_PANDAS: Final[Mapping[Kind, str]] = {"text": "string", "truth": "boolean", "whole": "Int64", "number": "Float64"}


def to_arrow(view: View, by: By) -> Any:
    """Return the table of a run as a ``pyarrow.Table``; raises `UsageError` where pyarrow is not installed."""
    columns = _checked(by)
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("to_arrow", "pyarrow", "parquet") from error
    kinds = {"text": pa.string(), "truth": pa.bool_(), "whole": pa.int64(), "number": pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    return pa.Table.from_pylist(list(records(view, by)), schema=schema)


def to_pandas(view: View, by: By) -> Any:
    """Return the table of a run as a ``pandas.DataFrame``; raises `UsageError` where pandas is not installed."""
    columns = _checked(by)
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing("to_pandas", "pandas", "pandas") from error
    found = list(records(view, by))
    return pd.DataFrame(
        {name: pd.array([record[name] for record in found], dtype=_PANDAS[kind]) for name, kind in columns.items()}
    )


def records(view: View, by: By) -> Iterator[dict[str, Any]]:
    """Yield the records, with all `COLUMNS`; what a metric does not have is None."""
    for workload in view.workloads:
        for summary in workload.techniques:
            for name, figure in _figures(view, summary).items():
                metric = view.quality if name == view.quality.id else view.metrics[name]
                place = {
                    "run": view.info.id,
                    "suite": view.info.suite.id,
                    "suite_version": view.info.suite.version,
                    "form": view.info.suite.form,
                    "workload": workload.workload,
                    "technique": summary.technique,
                    "baseline": summary.baseline,
                    "metric": name,
                    "unit": metric.unit,
                    "lane": metric.lane,
                    "higher_is_better": metric.higher_is_better,
                }
                if by == "seed":
                    yield from ({**place, "seed": seed, "value": value} for seed, value in figure.values.items())
                else:
                    yield place | _estimate(figure) | _judged(summary, is_judged=name == view.quality.id)


def _figures(view: View, summary: TechniqueSummary) -> dict[str, Figure]:
    """Return the figures of a technique by metric; the one that it is judged by is what verdicts are made of."""
    figures = {name: figure for name, figure in summary.figures.items() if name in view.metrics}
    return figures | ({view.quality.id: summary.quality} if summary.quality else {})


def _estimate(figure: Figure) -> dict[str, Any]:
    estimate = figure.estimate
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _judged(summary: TechniqueSummary, *, is_judged: bool) -> dict[str, Any]:
    """Return what stands with the metric that verdicts are made by, and nothing of it with another one."""
    difference = summary.comparison.difference if is_judged and summary.comparison else None
    return {
        "status": summary.status,
        "verdict": summary.verdict if is_judged else None,
        "difference": difference.value if difference else None,
        "difference_low": difference.low if difference else None,
        "difference_high": difference.high if difference else None,
        "pareto": summary.pareto,
    }


def _checked(by: By) -> Mapping[str, Kind]:
    if by not in COLUMNS:
        raise UsageError(f"by = {by!r}: expected one of {', '.join(COLUMNS)}")
    return COLUMNS[by]


def _missing(method: str, package: str, extra: str) -> UsageError:
    return UsageError(
        f"{method} needs {package}, which is not installed", f"install it: pip install '{DISTRIBUTION}[{extra}]'"
    )
