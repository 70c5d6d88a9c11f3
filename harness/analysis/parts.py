"""Tells into which part of a run its time went: start, tuning, further seeds, peaks of memory, or times."""

from __future__ import annotations

import datetime as dt
from typing import Final

from harness.api import LANES, Case
from harness.results.store import StoredRun

START: Final = "start"
PARTS: Final = (START, "tuning", "seeds", "repeated seeds", "memory", "time")
"""The parts in their order. The start ends when the first case begins; the others are sums over cases."""


def part_of(case: Case) -> str:
    """Return the part that a case belongs to."""
    if case.lane != "accuracy":
        return case.lane
    return "tuning" if case.stage == "tuning" else "repeated seeds" if case.perturbed else "seeds"


def spent(run: StoredRun) -> dict[str, float]:
    """Return the seconds of each part of a run: wall-clock seconds of the start, CPU seconds of cases of the others.

    Empty where they say nothing about the suite as a whole: of a run that did not end or was resumed elsewhere, of a
    part of a suite, where the user chose what is repeated, and where rows failed or are those of earlier runs.
    """
    info, chosen = run.info, run.info.selection
    narrowed = any(chosen.get(name) for name in ("techniques", "workloads", "seeds", "params", "until"))
    repeated = chosen.get("repeatability") is not None  # 0 is a choice, too
    whole = not (narrowed or repeated) and {*LANES} == {*(lane for lane in _texts(chosen.get("lanes")))}
    if not whole or not run.rows or info.exit_code != 0 or info.resumed or any(row.reused_from for row in run.rows):
        return {}
    first = min(dt.datetime.fromisoformat(row.started) for row in run.rows)
    seconds = {START: (first - dt.datetime.fromisoformat(info.started)).total_seconds()}
    for row in run.rows:
        part = part_of(row.case)
        seconds[part] = seconds.get(part, 0.0) + row.reply.cpu_s
    return seconds


def _texts(value: object) -> list[str]:
    """Return the texts of a list that was stored, and none of anything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []
