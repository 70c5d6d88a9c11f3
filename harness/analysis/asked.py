"""Tells which lanes a run was asked for, and which techniques have all of them although none says how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from harness.analysis.summary import UNFINISHED, TechniqueSummary
from harness.api import LANES, Lane, Row, RunInfo

MEASURED: Final = "measured"
"""The status of a technique without a quality that has a row of each lane which was asked for."""


def lanes_of(info: RunInfo) -> tuple[Lane, ...]:
    """Return the lanes that a run was asked for: all of them where the run does not say."""
    stored = info.selection.get("lanes")
    named = stored if isinstance(stored, (list, tuple)) else ()
    return tuple(lane for lane in LANES if lane in named) or LANES


def as_asked(summary: TechniqueSummary, rows: Sequence[Row], lanes: Sequence[Lane]) -> TechniqueSummary:
    """Return the summary, as measured where no accuracy was asked for and a row of every lane is there."""
    if "accuracy" in lanes or summary.status != UNFINISHED or not {row.case.lane for row in rows} >= {*lanes}:
        return summary
    return replace(summary, status=MEASURED)
