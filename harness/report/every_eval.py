"""Runs as records of Every Eval Ever: one for each technique, with each metric of each workload and its interval."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.analysis.frames import records
from harness.api import DISTRIBUTION, Json, UsageError
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.view import RunView

SCHEMA_VERSION: Final = "0.3.0"
"""The version of the schema that the records fulfil: https://github.com/evaleval/every_eval_ever."""

_UNITS: Final = {"%": "percent", "s": "seconds", "B": "bytes"}
_METHODS: Final = {"accuracy": "Student's t over seeds", "time": "bootstrap of the median over rounds"}
_LEVEL: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and the techniques without any number, of which there is nothing to write."""

    files: Sequence[Path]
    left_out: Sequence[str]


def write_every_eval(view: RunView, folder: Path) -> Exported:
    """Write the records of a run, each into ``FOLDER/harness-SUITE/PLUGIN/TECHNIQUE/UUID.json``.

    The same run is written into the same files. Raises `harness.api.UsageError` where the folder cannot be written to.
    """
    results = results_of(view)
    files = []
    for technique, found in results.items():
        record = record_of(view, technique, found)
        path = folder.joinpath(*_place(view, technique), f"{_id_of(str(record['evaluation_id']))}.json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}", "choose another folder") from error
        files.append(path)
    names = {summary.technique for workload in view.workloads for summary in workload.techniques}
    return Exported(files=files, left_out=sorted(names - results.keys()))


def results_of(view: RunView) -> dict[str, list[dict[str, Any]]]:
    """Return each result of a technique by the technique's id: a metric on a workload; none that is not finite."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in records(view, "technique"):
        if math.isfinite(entry["value"]):
            found.setdefault(entry["technique"], []).append(_result(view, entry))
    return found


def record_of(view: RunView, technique: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record of a technique as the schema has it."""
    info = view.info
    source: dict[str, Json] = {
        "run": info.id,
        "suite": info.suite.id,
        "suite_version": info.suite.version,
        "form": info.suite.form,
    }
    plugin = technique.partition("/")[0]
    versions = {str(entry.get("name")): str(entry.get("version") or "unknown") for entry in info.plugins}
    tuned = {
        short(workload.workload): dict(summary.tuning.tuned)
        for workload in view.workloads
        for summary in workload.techniques
        if summary.technique == technique and summary.tuning
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"harness-{info.suite.id}/{technique}/{info.id}",
        "evaluation_timestamp": _seconds(info.started),
        "retrieved_timestamp": _seconds(info.finished or info.started),
        "source_metadata": {
            "source_name": info.suite.title,
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": _texts(source),
        },
        "eval_library": {"name": DISTRIBUTION, "version": versions.get("core", "unknown")},
        "model_info": {
            "name": technique,
            "id": technique,
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **_texts({"what": "a technique, not a model", "plugin": plugin, "tuned": tuned}),
                "plugin_version": versions.get(plugin, "unknown"),
            },
        },
        "evaluation_results": list(results),
    }


def _result(view: RunView, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result; the bounds of a metric are told where its unit sets them, as the schema wants for a scale."""
    metric = view.quality if entry["metric"] == view.quality.id else view.metrics[entry["metric"]]
    percent = metric.unit == "%"
    scale: dict[str, Any] = {"score_type": "continuous", "min_score": 0, "max_score": 100} if percent else {}
    place = {"lane": metric.lane} | ({} if percent else {"bounds_status": "unknown"})
    told = {name: entry[name] for name in ("status", "verdict", "difference", "difference_low", "difference_high")}
    told |= {"baseline": view.info.suite.baseline, "pareto": entry["pareto"]}
    uncertainty: dict[str, Any] = {"num_samples": entry["n"]}
    if entry["low"] is not None and entry["high"] is not None:
        interval = {"lower": entry["low"], "upper": entry["high"], "confidence_level": _LEVEL}
        uncertainty["confidence_interval"] = {**interval, "method": _METHODS.get(metric.lane, "unknown")}
    return {
        "evaluation_result_id": f"{view.info.id}/{entry['technique']}/{entry['workload']}/{metric.id}",
        "evaluation_name": entry["workload"],
        "source_data": {"dataset_name": short(entry["workload"]), "source_type": "other"},
        "metric_config": {
            "evaluation_description": metric.summary,
            "metric_id": f"harness.{metric.id}",
            "metric_name": metric.id,
            **({"metric_unit": _UNITS.get(metric.unit, metric.unit)} if metric.unit else {}),
            "lower_is_better": not metric.higher_is_better,
            **scale,
            "additional_details": place,
        },
        "score_details": {
            "score": entry["value"],
            "uncertainty": uncertainty,
            "details": _texts({name: value for name, value in told.items() if value is not None}),
        },
    }


def _texts(facts: Mapping[str, Json]) -> dict[str, str]:
    """Return facts as the schema wants all further details: as texts."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def _seconds(moment: str) -> str:
    return str(int(datetime.fromisoformat(moment).timestamp()))


def _place(view: RunView, technique: str) -> list[str]:
    """Return names of folders for a collection, a developer and a model; no name leaves the folder around it."""
    plugin, _, name = technique.partition("/")
    parts = (f"harness-{view.info.suite.id}", plugin, name)
    return ["".join(c if c.isalnum() or c in "-_." else "-" for c in part).lstrip(".") or "-" for part in parts]


def _id_of(text: str) -> uuid.UUID:
    """Return an id that follows from a text, in the form of a random one, which the schema's tools look for."""
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4)
