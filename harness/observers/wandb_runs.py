"""Writes runs for Weights & Biases: a project for each suite, a group for each run, and a run in it for each row."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.api import API_VERSION, Json, Row, RunInfo, hookimpl
from harness.observers.records import facts_of, place_of, record_of

MODE: Final = "WANDB_MODE"
"""The tool's own variable: ``online`` sends what is written at once, and needs a login."""


class WandB:
    """Writes offline runs into a folder, unless `MODE` says otherwise; ``wandb sync`` sends them."""

    HARNESS_API = API_VERSION

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._run: RunInfo | None = None

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        """Write a first run of the group, which has the suite, the selection and the environment."""
        self._run = run
        opened = self._open("run", run.name or run.id, "run", facts_of(run))
        opened.finish(exit_code=0)

    @hookimpl
    def case_finished(self, row: Row) -> None:
        """Write the row as a run of the group; a failed one ends with the exit code 1."""
        record = record_of(row)
        opened = self._open(row.case.key, record.name, row.case.lane, {**record.params, **record.tags})
        steps: dict[int, dict[str, float]] = {}
        for name, points in record.curves.items():
            for step, value in points:
                steps.setdefault(step, {})[name] = value
        for step in sorted(steps):
            opened.log(steps[step], step=step)
        opened.summary.update({**record.metrics, "status": row.reply.status, "reason": row.reply.reason})
        opened.finish(exit_code=1 if row.failed else 0)

    @hookimpl
    def run_finished(self, run: RunInfo) -> None:
        """Do nothing: each run of the group is written whole as its row ends."""

    def _open(self, key: str, name: str, kind: str, config: Mapping[str, Json]) -> Any:
        """Return a new run of the tool, in place of the offline one that has the same key."""
        import wandb

        assert self._run is not None
        place = place_of(self._run, "wandb", self._folder)
        place.mkdir(parents=True, exist_ok=True)
        id_ = hashlib.sha256(f"{self._run.id} {key}".encode()).hexdigest()[:16]
        for earlier in (place / "wandb").glob(f"offline-run-*-{id_}"):
            shutil.rmtree(earlier)
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True,
            x_disable_machine_info=True, x_save_requirements=False,
        )  # fmt: skip
        return wandb.init(
            project=f"harness-{self._run.suite.id}", group=self._run.id, job_type=kind, id=id_, name=name,
            config=dict(config), dir=str(place), mode=_mode(), reinit="create_new", settings=settings,
        )  # fmt: skip


def _mode() -> Any:
    return os.environ.get(MODE) or "offline"
