"""All results of a view as JSON, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from harness.api import Json
from harness.results.schema import encode, run_to_json

if TYPE_CHECKING:
    from harness.analysis.summary import TechniqueSummary
    from harness.analysis.view import RunView


def view_to_json(view: RunView) -> dict[str, Json]:
    """Return the run, and for every workload and technique all figures with interval and values by seed."""
    return {
        "run": run_to_json(view.info),
        "rows": view.rows,
        "failed": view.failed,
        "reused": view.reused,
        "remarks": list(view.remarks),
        "finished": view.finished,
        "judged": view.quality.id,
        "metrics": _plain(view.metrics),
        "workloads": [
            {
                "workload": workload.workload,
                "margin": workload.rule.margin,
                "pareto_cost": workload.cost,
                "techniques": [_technique(summary) for summary in workload.techniques],
            }
            for workload in view.workloads
        ],
        "overall": _plain(view.overall),
        "claims": _plain(view.claims),
    }


def _technique(summary: TechniqueSummary) -> Json:
    flat = _plain(summary)
    assert isinstance(flat, dict)
    return {**flat, "verdict": summary.verdict, "reason": summary.reason}


def _plain(value: Any) -> Json:
    """Return a value with all nested dataclasses as JSON objects."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return encode(value)
