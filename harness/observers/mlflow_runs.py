"""Writes runs to MLflow: an experiment for each suite, a run for each of ours, and one within it for each row."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from harness.api import API_VERSION, Row, RunInfo, hookimpl
from harness.observers.records import facts_of, flat, place_of, record_of, text_of

ADDRESS: Final = "MLFLOW_TRACKING_URI"
"""MLflow's own variable, which names a server or a database."""

_MOST_METRICS: Final = 1000
_MOST_PARAMS: Final = 100
_LONGEST: Final = 5000
"""What MLflow takes at once: metrics and parameters of a call, and characters of a value."""

_REFUSED: Final = re.compile(r"[^\w\-. /:]", re.ASCII)
"""What MLflow refuses in a name."""


class MLflow:
    """Writes through MLflow's client to the server of `ADDRESS`, or to a database in a folder."""

    HARNESS_API = API_VERSION

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._known: dict[str, str] = {}

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        """Open the experiment of the suite, and the run in it."""
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        place = place_of(run, "mlflow", self._folder).absolute()
        address = os.environ.get(ADDRESS, "") if self._folder is None else ""
        if not address:
            place.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=address or f"sqlite:///{place / 'mlflow.db'}")
        name = f"harness {run.suite.id}"
        found = self._client.get_experiment_by_name(name)
        artifacts = None if address else (place / "artifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(name, artifacts)
        self._known = {key: id_ for id_, key in self._stored(run.id)}
        facts = facts_of(run)
        tags = {"harness.run": run.id, "harness.key": "run", **_within(flat(facts, "harness."))}
        self._parent = self._known.get("run") or self._create(run.name or run.id, run.started, tags)
        self._client.update_run(self._parent, status="RUNNING")
        self._client.log_dict(self._parent, facts, "run.json")

    @hookimpl
    def case_finished(self, row: Row) -> None:
        """Write the row as a run within the run."""
        from mlflow.entities import Metric, Param

        record = record_of(row)
        if earlier := self._known.get(row.case.key):
            self._client.delete_run(earlier)
        tags = {"mlflow.parentRunId": self._parent, **_within({f"harness.{k}": v for k, v in record.tags.items()})}
        self._known[row.case.key] = child = self._create(record.name, row.started, tags)
        time = _milliseconds(row.started)
        params = [Param(name, text_of(value)[:_LONGEST]) for name, value in _named(record.params)]
        points = [Metric(name, value, time, 0) for name, value in _named(record.metrics)]
        points += [Metric(name, value, time, step) for name, curve in _named(record.curves) for step, value in curve]
        for part in _slices(params, _MOST_PARAMS):
            self._client.log_batch(child, params=part)
        for part in _slices(points, _MOST_METRICS):
            self._client.log_batch(child, metrics=part)
        status = "FINISHED" if row.ok else "FAILED" if row.failed else "KILLED"
        self._client.set_terminated(child, status=status, end_time=time + round(1000 * row.reply.wall_s))

    @hookimpl
    def run_finished(self, run: RunInfo) -> None:
        """Write how the run ended."""
        status = {0: "FINISHED", 1: "FAILED"}.get(1 if run.exit_code is None else run.exit_code, "KILLED")
        self._client.set_terminated(self._parent, status=status, end_time=_milliseconds(run.finished))

    def _create(self, name: str, started: str, tags: Mapping[str, str]) -> str:
        made = self._client.create_run(self._experiment, _milliseconds(started), {**tags, "mlflow.runName": name})
        return str(made.info.run_id)

    def _stored(self, run: str) -> Iterator[tuple[str, str]]:
        """Yield the id of each run that MLflow has of ours, and its key."""
        token = None
        while True:
            asked = f"tags.`harness.run` = '{run}'"
            page = self._client.search_runs([self._experiment], asked, max_results=_MOST_METRICS, page_token=token)
            yield from ((found.info.run_id, found.data.tags["harness.key"]) for found in page)
            token = page.token
            if not token:
                return


def _named(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(_REFUSED.sub("_", name), value) for name, value in values.items()]


def _within(tags: Mapping[str, str]) -> dict[str, str]:
    return {_REFUSED.sub("_", name): text[:_LONGEST] for name, text in tags.items()}


def _slices(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _milliseconds(moment: str) -> int:
    return round(1000 * datetime.fromisoformat(moment).timestamp())
