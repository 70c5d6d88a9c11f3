"""What a tracker is told of a row and of a run: names, parameters, numbers and facts, in types that all take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import Json, Row, RunInfo
from harness.api.text import named, printable

_LONGEST: Final = 100
"""The most characters of a name that becomes a folder's, which has at most 255 bytes."""

Points = Sequence[tuple[int, float]]
"""The points of a curve: the step, counted from 0, and the value there."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A row as trackers take it.

    - ``name``: the row in a line; ``parts``: the same in parts that can name folders.
    - ``params``: the seed, and parameters and settings by ``param.NAME`` and ``setting.NAME``.
    - ``metrics``, ``curves``: finite numbers; the steps of a curve are its places, counted from 0.
    - ``tags``: what else is known: case, status and reason, code.
    """

    name: str
    parts: tuple[str, ...]
    params: Mapping[str, Json]
    metrics: Mapping[str, float]
    curves: Mapping[str, Points]
    tags: Mapping[str, str]


def record_of(row: Row) -> Record:
    """Return what a tracker is told of a row; numbers that are not finite are left out, as trackers refuse them."""
    case, reply = row.case, row.reply
    seed = f"seed {case.seed}{' repeated' if case.perturbed else ''}"
    tuned = named(case.tuned)
    words = [f"{case.technique} on {case.workload.rpartition('/')[2]}", case.lane, seed, *([tuned] if tuned else [])]
    case_words = ", ".join([case.lane, case.stage, *words[2:]])
    return Record(
        name=printable(", ".join(words)),
        parts=(case.workload[:_LONGEST], case.technique[:_LONGEST], f"{case_words[:_LONGEST]}, {case.key[:8]}"),
        params={
            "seed": case.seed,
            **{f"param.{name}": value for name, value in case.params.items()},
            **{f"setting.{name}": value for name, value in case.settings.items()},
        },
        metrics={name: float(value) for name, value in reply.metrics.items() if math.isfinite(value)},
        curves={
            name: [(step, float(value)) for step, value in enumerate(values) if math.isfinite(value)]
            for name, values in reply.series.items()
        },
        tags=_tags_of(row),
    )


def _tags_of(row: Row) -> dict[str, str]:
    case, reply = row.case, row.reply
    tags = {
        "run": row.run,
        "key": case.key,
        "suite": case.suite,
        "suite_version": str(case.suite_version),
        "form": case.form,
        "workload": case.workload,
        "workload_version": str(case.workload_version),
        "technique": case.technique,
        "lane": case.lane,
        "stage": case.stage,
        "tuned": named(case.tuned),
        "device": case.device,
        "code": case.code,
        "plugin_version": case.plugin_version,
        "started": row.started,
        "status": reply.status,
        "reason": reply.reason,
        "notes": "; ".join(reply.notes),
        "reused_from": row.reused_from,
    }
    return {name: printable(text) for name, text in tags.items() if text}


def facts_of(run: RunInfo) -> dict[str, Json]:
    """Return what a tracker is told of a run: the suite, what was selected, plugins and the environment."""
    return {
        "run": run.id,
        "name": run.name,
        "suite": {"id": run.suite.id, "version": run.suite.version, "title": run.suite.title, "form": run.suite.form},
        "started": run.started,
        "selection": dict(run.selection),
        "plugins": [{key: entry.get(key) for key in ("name", "version", "status")} for entry in run.plugins],
        "environment": dict(run.environment),
    }


def flat(facts: Mapping[str, Json], prefix: str = "") -> dict[str, str]:
    """Return nested facts by names with dots, each as text."""
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = text_of(value)
    return found


def text_of(value: Json) -> str:
    """Return a value as text: a text as it is, anything else as JSON."""
    return printable(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def place_of(run: RunInfo, tracker: str, folder: Path | None) -> Path:
    """Return the folder that a tracker writes to: the one that the user named, or one in the run's store."""
    return folder if folder is not None else run.folder.parents[1] / tracker
